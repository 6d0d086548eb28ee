"""The same physical grid, stored along other axes: its voxels in the order of another scan, without resampling."""

from __future__ import annotations

from dataclasses import replace

from voco_cli.scans.geometry import Placement, axis_codes, storage_order
from voco_cli.scans.scan import Scan


def placement(scan: Scan) -> Placement:
    """Return where the grid of a scan lies."""
    return Placement(scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction)


def stored_like(scan: Scan, like: Placement, like_shape_xyz: tuple[int, int, int], words: str) -> Scan | None:
    """Return a scan with its voxels in the order of a grid, and a note where that changed them; none off that grid.

    Args:
        like, like_shape_xyz: the grid.
        words: what the note calls it, as "its label".
    """
    order = storage_order(placement(scan), scan.shape_xyz, like, like_shape_xyz)
    if order is None:
        return None
    if order.is_same:
        return scan
    note = (
        f"stored along {axis_codes(scan.direction)}, and {words} along {axis_codes(like.direction)}: its voxels were "
        "put into that order, nothing was resampled"
    )
    return replace(
        scan,
        array_zyx=order.array_zyx(scan.array_zyx),
        spacing_xyz_mm=like.spacing_xyz_mm,
        origin_xyz_mm=like.origin_xyz_mm,
        direction=like.direction,
        notes=(*scan.notes, note),
    )
