"""How large label maps will be on disk."""

from __future__ import annotations

from voco_cli.settings import Settings

PACKED = 12
"""Voxels of a compressed label map in a byte, at least: 61 structures at 3 mm had 12, a few organs 37 to 220."""
MOST_IN_A_BYTE = 255


def label_map_bytes(source_vox: int, settings: Settings) -> float:
    """Bytes of a predicted label map on a scan's own grid; for compressed formats an upper estimate."""
    largest = max((value for one in settings.task.classes for value in one.values), default=1)
    raw = source_vox * (1 if largest <= MOST_IN_A_BYTE else 2)
    return float(raw) if settings.predict.suffix == ".nii" else raw / PACKED
