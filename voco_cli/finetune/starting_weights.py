"""Refuse weights that a task's network cannot start from, and say what to choose in their place."""

from __future__ import annotations

import shlex

from voco_cli.config import Settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.config.validation import multiples
from voco_cli.errors import UsageError
from voco_cli.models.backbone import Architecture
from voco_cli.models.build import build_task_network
from voco_cli.models.weights import OtherNetwork
from voco_cli.models.weights.load import check_start
from voco_cli.tasks.targets import target_of


def require_fitting_weights(settings: Settings) -> None:
    """Refuse weights of another network than the task's.

    Raises:
        UsageError: they are; the hint has the options that make the network theirs.
        DataError: they do not exist, or are damaged.
    """
    try:
        check_start(lambda: build_task_network(settings), settings.model)
    except OtherNetwork as other:
        raise UsageError(other.message, _network_hint(settings, other.theirs) or other.hint) from other


def _network_hint(settings: Settings, theirs: Architecture) -> str | None:
    """Return options under which the task has the network of the weights, sizes in its multiples among them."""
    words = theirs.settings_words()
    if not words:
        return None
    task, levels = settings.task, len(theirs.filters)
    rules = BACKBONES[theirs.backbone]
    whole = not target_of(task).is_label_map
    key, size = "task.patch_size", task.patch_size
    if whole:
        key, size = "preprocess.resize_vox", settings.preprocess.resize_vox or size
    if (fitting := multiples(size, rules.multiple(levels))) != tuple(size):
        words += f" --set {key}={'x'.join(map(str, fitting))}"
    most = rules.most_supervision(levels)
    if task.deep_supervision > most:
        words += f" --set task.deep_supervision={most}"
    new = ""
    if settings.data.file is not None and not whole:
        command = ["voco", "tasks", "new", settings.data.file, "--weights", settings.model.weights]
        command += ["-o", "task_for_weights.yaml"]
        new = f", or write a task for it: `{shlex.join(map(str, command))}`"
    return f"choose the network of the weights: `{words}`{new}"
