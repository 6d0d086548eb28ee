"""What to change where something does not fit: settings by name, with what they would come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from voco_cli.config import Settings
from voco_cli.data.cache.entry import gigabytes
from voco_cli.resources.amounts import Need
from voco_cli.resources.costs import training_footprint

SMALL_CLIPPED = 32
"""No crop or patch is proposed with an edge below this, voxels."""
WORTH_MOVING = 0.02
"""What takes a smaller share of a full disk is left where it is."""
DISK_ADVICE = {
    "cache": (
        "--set cache.dir=FOLDER puts the cache on another disk.",
        "--set cache.level=6 packs the cache tighter (slower to build, as fast to read).",
        "voco cache prune DATA --yes removes volumes that no scan needs.",
    ),
    "checkpoints": ("-o FOLDER puts the run on another disk; --set train.keep_checkpoints=1 keeps fewer checkpoints.",),
    "predictions": ("-o FOLDER puts the predictions, or the run that they are of, on another disk.",),
}


@dataclass(frozen=True)
class Change:
    """A change of the settings that takes less memory in training.

    Attributes:
        keys: dotted key to value.
        price: what it costs, in a few words.
    """

    keys: dict[str, Any]
    price: str

    def words(self) -> str:
        """Return it as one would type it."""
        return " ".join(f"--set {key}={_typed(value)}" for key, value in self.keys.items())


def disk_advice(need: Need) -> Iterator[str]:
    """Say what to do about a file system that is too small, beginning with what takes most of it."""
    missing = gigabytes(need.high_bytes - need.free_bytes)
    yield f"Free {missing} on the disk of {need.where}, or put a part of it on another one."
    for part in sorted(need.parts, key=lambda part: -part.amount.high):
        if part.amount.high >= WORTH_MOVING * need.high_bytes:
            yield from DISK_ADVICE.get(part.name, ())


def cache_memory_advice(workers: int, one_bytes: float, free_bytes: int) -> str:
    """Say what to do where building the cache takes too much memory."""
    fitting = int(free_bytes // one_bytes) if one_bytes else workers
    if fitting < 1:
        return "Not even one process has enough memory for the largest scan: leave it out of data.json, or free memory."
    return f"--set cache.workers={min(fitting, workers - 1) or 1} builds the cache with fewer processes at a time."


def training_advice(settings: Settings, device: torch.device, loaders: int, need: Need) -> Iterator[str]:
    """Name settings with which training might fit, the gentlest first; if none would do, those that take least.

    What is needed beyond the estimate of these settings is taken to be needed of others, too.

    Args:
        loaders: loader processes.
        need: the memory that is short.
    """

    def estimate(one: Settings) -> float:
        processes = one.data.workers if isinstance(one.data.workers, int) else loaders
        footprint = training_footprint(one, device, processes)
        return footprint.device_bytes if need.kind == "GPU memory" else footprint.host_bytes

    factor = need.high_bytes / estimate(settings)
    found: list[tuple[float, Change]] = []
    for change in _changes(settings, need):
        changed = _changed(settings, change)
        if changed is None:
            continue
        taken = factor * estimate(changed)
        if taken < need.high_bytes:
            found.append((taken, change))
    fitting = [one for one in found if one[0] <= need.free_bytes]
    if not fitting and found:
        taken, least = min(found, key=lambda one: one[0])
        yield f"No single setting will do: {least.words()} takes least, about {gigabytes(taken)} ({least.price})."
    for taken, change in fitting:
        yield f"{change.words()} would take about {gigabytes(taken)} ({change.price})."
    if not found:
        yield "Free some memory, or use a larger machine."


def _changes(settings: Settings, need: Need) -> Iterator[Change]:
    train, model, task = settings.train, settings.model, settings.task
    if need.kind == "memory" and settings.data.workers != 0:
        yield Change({"data.workers": 0}, "no loader processes: steps wait for data")
    if need.kind == "GPU memory" and settings.run.precision == "fp32":
        yield Change({"run.precision": "bf16"}, "half the digits, as on any GPU that has it")
    if model.checkpointing != "on":
        yield Change({"model.checkpointing": "on"}, "activations are computed twice: about a third slower")
    if train.batch_size > 1:
        half = {"train.batch_size": train.batch_size // 2, "train.accumulate": 2 * train.accumulate}
        one = {"train.batch_size": 1, "train.accumulate": train.batch_size * train.accumulate}
        yield from (
            Change(keys, "as many volumes a step, fewer at a time") for keys in ([half, one] if half != one else [half])
        )
    if task.preset is not None and task.is_voxelwise:
        if task.patches_per_volume > 1:
            yield Change({"task.patches_per_volume": 1}, "fewer patches a step")
        yield Change({"task.patch_size": _halved(task.patch_size)}, "the network sees less around each voxel")
    if task.preset is None:
        yield Change({"crops.input_size": _halved(settings.crops.network_size_vox)}, "crops reach the network coarser")
    yield Change({"model.feature_size": model.feature_size // 2}, "a smaller network, whose weights fit no larger one")


def _halved(size: Sequence[int]) -> list[int]:
    return [max(SMALL_CLIPPED, edge // 2) if edge > SMALL_CLIPPED else edge for edge in size]


def _changed(settings: Settings, change: Change) -> Settings | None:
    """Return the settings with a change; None where they would not go together."""
    values = settings.model_dump()
    for key, value in change.keys.items():
        section, name = key.split(".")
        values[section][name] = value
    try:
        return Settings.model_validate(values)
    except ValidationError:
        return None


def _typed(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
