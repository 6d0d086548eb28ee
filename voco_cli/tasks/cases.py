"""Labelled cases from the cache, and those that cannot be used, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.data.cache.manifest import VolumeFacts
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError
from voco_cli.tasks.targets import target_of
from voco_cli.training.callbacks import Callback

IntXYZ = tuple[int, int, int]


@dataclass(frozen=True)
class StoredCase:
    """A case of a task.

    Attributes:
        entry: files, patient, category.
        volumes: one a channel, all on one grid; the first carries the label map, if there is one.
    """

    entry: Entry
    volumes: tuple[StoredVolume, ...]

    @property
    def name(self) -> str:
        """Name in random draws, messages and predictions."""
        return self.entry.name

    @property
    def shape_xyz(self) -> IntXYZ:
        """Voxels of each channel along x, y, z."""
        return self.volumes[0].shape_xyz

    def read_channels(self) -> NDArray[Any]:
        """Read all channels as they are stored, channels_CXYZ.

        Raises:
            DataError: a cached volume is damaged.
        """
        return np.stack([volume.read((0, 0, 0), self.shape_xyz) for volume in self.volumes])


LeftOut = list[tuple[str, str]]
"""Cases that are not used, and why."""
StoredChannels = Mapping[tuple[Path, Path | None], VolumeFacts | str]
"""What is known of the cached volume of an image, with its label map, or why there is none."""


def open_cache(settings: Settings) -> VolumeCache:
    """Open the cache of a fine-tuning: beside data.json, as for pre-training, or else beside the run folder.

    Folders of public data sets are often shared and should stay as they are.
    """
    cache = settings.cache
    folder = cache_folder(settings.data.file, cache) if settings.data.file else cache.dir
    folder = folder or settings.run.dir.resolve().parent / ".voco-cache"
    return VolumeCache(folder, settings.preprocess, cache, labels=target_of(settings.task).is_label_map)


def build_cases(
    cache: VolumeCache, entries: Sequence[Entry], callback: Callback, *, recheck: bool = False
) -> StoredChannels:
    """Make what is missing of all channels, and say what is there.

    Args:
        callback: follows it, and is warned of what was not as it should be.
        recheck: open all scans and volumes, whatever the manifest of the cache says.
    """
    channels = [channel for entry in entries for channel in entry.channel_entries()]
    with callback.building(len(channels)) as on_done:

        def done(channel: Entry, reason: str | None) -> None:
            on_done(str(channel.image), reason)

        prepared = cache.prepare(channels, on_done=done, recheck=recheck)
    for note in prepared.notes:
        callback.warn(note, style="yellow")
    return {(one.image, one.label): facts for one, facts in zip(channels, prepared.facts, strict=True)}


def stored_cases(
    cache: VolumeCache, entries: Sequence[Entry], settings: Settings, stored: StoredChannels
) -> tuple[list[StoredCase], LeftOut]:
    """Return the cases that can be used, and say why the others cannot."""
    cases: list[StoredCase] = []
    left_out: LeftOut = []
    for entry in entries:
        try:
            cases.append(_stored_case(cache, entry, settings, stored))
        except DataError as error:
            left_out.append((entry.name, error.message))
    return cases, left_out


def _stored_case(cache: VolumeCache, entry: Entry, settings: Settings, stored: StoredChannels) -> StoredCase:
    channels = settings.task.channels
    if len(entry.channels) + 1 != len(channels):
        raise DataError(
            f"{entry.image} has {len(entry.channels) + 1} channels, and the task has {len(channels)} "
            f"({', '.join(channels)})."
        )
    target = target_of(settings.task)
    if target.is_label_map and not target.is_known(entry):
        raise DataError(f"{entry.image} has no {target.name}.")
    volumes, shapes = [], set()
    for channel in entry.channel_entries():
        facts = stored[channel.image, channel.label]
        if isinstance(facts, str):
            raise DataError(facts)
        volumes.append(cache.volume(facts, channel.image))
        shapes.add(facts.shape_xyz)
    if len(shapes) > 1:
        words = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise DataError(f"{entry.image} and its other channels lie on different grids ({words} voxels).")
    return StoredCase(entry, tuple(volumes))
