"""Labelled cases from the cache, and those that cannot be used, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from voco_cli.cache.store import VolumeCache, cache_folder
from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.errors import DataError
from voco_cli.settings import Settings

LeftOut = list[tuple[str, str]]
"""Cases that are not used, and why."""


def open_cache(settings: Settings) -> VolumeCache:
    """The cache of a fine-tuning: beside data.json, as for pre-training, or else beside the run folder.

    Folders of public data sets are often shared and should stay as they are.
    """
    cache = settings.cache
    folder = cache_folder(settings.data.file, cache) if settings.data.file else cache.dir
    folder = folder or settings.run.dir.resolve().parent / ".voco-cache"
    return VolumeCache(folder, settings.preprocess, cache, labels=settings.task.kind == "segmentation")


def build_cases(
    cache: VolumeCache, entries: Sequence[Entry], on_done: Callable[[str, str | None], None]
) -> dict[Path, str]:
    """Make what is missing of all channels; returns the files that failed, with the reason."""
    channels = [channel for entry in entries for channel in entry.channel_entries()]
    report = cache.build(channels, on_done=lambda entry, reason: on_done(str(entry.image), reason))
    return dict(report.failed)


def stored_cases(
    cache: VolumeCache, entries: Sequence[Entry], settings: Settings, failed: Mapping[Path, str]
) -> tuple[list[StoredCase], LeftOut]:
    """Cases that can be used, and the others."""
    cases: list[StoredCase] = []
    left_out: LeftOut = []
    for entry in entries:
        try:
            cases.append(_stored_case(cache, entry, settings, failed))
        except DataError as error:
            left_out.append((entry.name, error.message))
    return cases, left_out


def _stored_case(cache: VolumeCache, entry: Entry, settings: Settings, failed: Mapping[Path, str]) -> StoredCase:
    channels = settings.task.channels
    if len(entry.channels) + 1 != len(channels):
        raise DataError(
            f"{entry.image} has {len(entry.channels) + 1} channels, and the task has {len(channels)} "
            f"({', '.join(channels)})."
        )
    if settings.task.kind == "segmentation" and entry.label is None:
        raise DataError(f"{entry.image} has no label map.")
    volumes = []
    for channel in entry.channel_entries():
        volume = cache.lookup(channel)
        if volume is None:
            raise DataError(failed.get(channel.image, f"{channel.image} could not be cached."))
        volumes.append(volume)
    shapes = {volume.shape_xyz for volume in volumes}
    if len(shapes) > 1:
        words = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise DataError(f"{entry.image} and its other channels lie on different grids ({words} voxels).")
    return StoredCase(entry, tuple(volumes))
