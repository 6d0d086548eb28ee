"""The channels of a case as the network sees them, and where they lie in its scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.cache.encoding import quantise
from voco_cli.cache.grid_map import GridMap
from voco_cli.cache.preprocess import preprocess
from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.geometry import Placement, grid_shift_mm, storage_order
from voco_cli.scans.scan import Scan
from voco_cli.settings import Settings

MOST_APART_VOX = 0.5
"""Grids of channels may lie this far apart; more and a structure would be elsewhere in another channel."""


@dataclass(frozen=True)
class Prepared:
    """A case, preprocessed as for training.

    Attributes:
        channels_CXYZ: stored numbers, C-contiguous.
        record: how they lie in the grid of the scan.
        scan: the first channel's place; its voxels are gone, which a large scan has better use for.
    """

    channels_CXYZ: NDArray[Any]
    record: GridMap
    scan: Scan


def prepare(entry: Entry, settings: Settings) -> Prepared:
    """Read and preprocess all channels of a case, one after another.

    Raises:
        DataError: a channel that cannot be read or is empty, or another number of them than the network has inputs.
        GeometryError: channels on different grids.
    """
    names = settings.task.channels
    channels = entry.channel_entries()
    if len(channels) != len(names):
        raise DataError(channel_fault(entry.name, [one.image.name for one in channels], names))
    volumes: list[NDArray[Any]] = []
    placed: list[tuple[Scan, GridMap]] = []
    for channel in channels:
        scan = read_entry(channel)
        made = preprocess(scan, settings.preprocess)
        volumes.append(quantise(made.array_xyz, settings.cache.dtype))
        without_voxels = np.broadcast_to(np.zeros((), dtype=scan.array_zyx.dtype), scan.array_zyx.shape)
        placed.append((replace(scan, array_zyx=without_voxels), made.record))
        _require_same_grid(placed[0], placed[-1])
    stored = volumes[0][None] if len(volumes) == 1 else np.stack(volumes)
    return Prepared(stored, placed[0][1], placed[0][0])


def channel_fault(case: str, found: list[str], needed: tuple[str, ...]) -> str:
    """One sentence on a wrong number of channels."""
    has = f"{len(found)} channel{'s' if len(found) != 1 else ''} ({', '.join(found)})"
    return f"{case} has {has}, and the network needs {len(needed)}: {', '.join(needed)}."


def _require_same_grid(first: tuple[Scan, GridMap], other: tuple[Scan, GridMap]) -> None:
    (scan, record), (channel, its_record) = first, other
    order = storage_order(_placement(channel), channel.shape_xyz, _placement(scan), scan.shape_xyz)
    if order is not None and record.shape_xyz == its_record.shape_xyz:
        return
    if (record.source_shape_xyz, record.shape_xyz) == (its_record.source_shape_xyz, its_record.shape_xyz):
        apart_mm = grid_shift_mm(_placement(channel), _placement(scan), scan.shape_xyz)
        if apart_mm <= MOST_APART_VOX * min(scan.spacing_xyz_mm):
            return
    raise GeometryError(
        f"{channel.path} lies on another grid than {scan.path}, the first channel.",
        "resample the channels to one grid first",
    )


def _placement(scan: Scan) -> Placement:
    return Placement(scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction)
