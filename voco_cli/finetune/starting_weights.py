"""Whether a task's network can start from the weights that were given, and what to choose where it cannot."""

from __future__ import annotations

import shlex

from torch import nn

from voco_cli.config import Settings
from voco_cli.config.validation import multiples
from voco_cli.errors import UsageError
from voco_cli.models.build import build_classifier, build_segmenter
from voco_cli.models.weights import Architecture, OtherNetwork
from voco_cli.models.weights.load import check_start


def require_fitting_weights(settings: Settings) -> None:
    """Refuse weights of another network than the task's.

    Raises:
        UsageError: they are; the hint has the options that make the network theirs.
        DataError: they do not exist, or are damaged.
    """
    try:
        check_start(lambda: _network(settings), settings.model)
    except OtherNetwork as other:
        raise UsageError(other.message, _network_hint(settings, other.theirs) or other.hint) from other


def _network(settings: Settings) -> nn.Module:
    task, channels = settings.task, len(settings.task.channels)
    if task.kind == "classification":
        return build_classifier(settings.model, channels, task.num_outputs)
    return build_segmenter(settings.model, channels, task.num_outputs, deep_supervision=task.deep_supervision)


def _network_hint(settings: Settings, theirs: Architecture) -> str | None:
    """Options under which the task has the network of the weights, sizes in its multiples among them."""
    words = theirs.settings_words()
    if not words:
        return None
    task, levels = settings.task, len(theirs.filters)
    swin = theirs.backbone == "swinunetr"
    multiple = 32 if swin else 2 ** (levels - 1)
    whole = task.kind == "classification"
    key, size = (
        ("preprocess.resize_vox", settings.preprocess.resize_vox) if whole else ("task.patch_size", task.patch_size)
    )
    if size is not None and (fitting := multiples(size, multiple)) != tuple(size):
        words += f" --set {key}={'x'.join(map(str, fitting))}"
    most = 0 if swin else levels - 2
    if task.deep_supervision > most:
        words += f" --set task.deep_supervision={most}"
    new = ""
    if settings.data.file is not None and not whole:
        command = [
            "voco",
            "tasks",
            "new",
            settings.data.file,
            "--weights",
            settings.model.weights,
            "-o",
            "task_for_weights.yaml",
        ]
        new = f", or write a task for it: `{shlex.join(map(str, command))}`"
    return f"choose the network of the weights: `{words}`{new}"
