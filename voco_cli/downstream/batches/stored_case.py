"""A labelled case as training sees it: cached channels, and what is known of the case."""

from __future__ import annotations

from dataclasses import dataclass

from voco_cli.cache.volume import StoredVolume
from voco_cli.dataset.datalist import Entry

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
        """What random draws, messages and predictions call it."""
        return self.entry.name

    @property
    def shape_xyz(self) -> IntXYZ:
        """Voxels of each channel along x, y, z."""
        return self.volumes[0].shape_xyz
