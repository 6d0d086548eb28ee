"""A pre-training that tells classes, as a task whose network predicts them."""

from __future__ import annotations

from voco_cli.config import Settings
from voco_cli.config.task_schema import LabelClass, Task

PRETRAINING = "pre-training"
"""In place of a preset's name."""


def tells_classes(settings: Settings) -> bool:
    """Return whether settings are those of a pre-training whose network tells classes."""
    return settings.task.preset is None and settings.objective.needs_labels


def is_class_union(settings: Settings) -> bool:
    """Return whether settings are those that `as_task` gives."""
    return settings.task.preset == PRETRAINING


def as_task(settings: Settings) -> Settings:
    """Return settings of a pre-training that tells classes with the task that its network does.

    The value of a class is its place among the classes, from 1.
    """
    options, crops = settings.objective.supervised, settings.crops
    classes = tuple(LabelClass(name=name, values=(value,)) for value, name in enumerate(options.classes, start=1))
    task = Task(
        preset=PRETRAINING, name=PRETRAINING, title="the classes of a pre-training", classes=classes,
        patch_size=crops.size, deep_supervision=options.deep_supervision,
    )  # fmt: skip
    return settings.model_copy(update={"task": task})
