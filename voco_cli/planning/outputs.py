"""How large label maps will be on disk."""

from __future__ import annotations

from collections.abc import Iterable

from voco_cli.planning.quantities import Amount
from voco_cli.settings import Settings

PACKED, LEAST_PACKED, MOST_PACKED = 40, 4, 220
"""Voxels of a compressed label map in a byte: 37 to 220 for a few organs, 12 for 61 structures at 3 mm, and 4 for the
noise of a network that has hardly been trained."""
MOST_IN_A_BYTE = 255


def label_map_bytes(source_vox: Iterable[int], settings: Settings) -> Amount:
    """Bytes of predicted label maps on the scans' own grids; known exactly where they are not compressed."""
    largest = max((value for one in settings.task.classes for value in one.values), default=1)
    raw = float(sum(source_vox) * (1 if largest <= MOST_IN_A_BYTE else 2))
    if settings.predict.suffix == ".nii":
        return Amount.of(raw, "estimated")
    return Amount(raw / PACKED, "estimated", raw / MOST_PACKED, raw / LEAST_PACKED)
