"""What is known of a scan without decoding its voxels."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.geometry import Placement, axis_codes


@dataclass(frozen=True)
class Header:
    """Shape, number format and place of a scan.

    Attributes:
        path: file, or folder or first file of a DICOM series.
        shape_xyz: voxels along x, y, z.
        dtype: number format of the decoded voxels, as numpy names it.
        placement: spacing, origin and direction.
        notes: what was repaired or chosen, one sentence each.
        format: ``nifti``, ``nrrd``, ``metaimage``, ``dicom``, ``numpy`` or ``pictures``.
        description: free text of the header; label maps often give themselves away in it.
    """

    path: Path
    shape_xyz: tuple[int, int, int]
    dtype: str
    placement: Placement
    format: str
    notes: tuple[str, ...] = ()
    description: str = ""

    @property
    def orientation(self) -> str:
        """Axis codes such as ``RAS``: where each voxel axis grows to."""
        return axis_codes(self.placement.direction)

    @property
    def is_integer(self) -> bool:
        """Whether voxels are stored as whole numbers."""
        return np.dtype(self.dtype).kind in "iub"


def require_file(path: Path) -> None:
    """Raise DataError where there is no regular file, or an empty one."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.", "Check the path.") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise DataError(f"{path} is not a file.")
    if status.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", "Copy or download it again.")


def volume_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """The three extents of a volume, voxels; trailing axes of length 1 are dropped.

    Raises:
        GeometryError: a picture (2-D) or a series of volumes (4-D and more).
    """
    extents = list(shape)
    while len(extents) > 3 and extents[-1] == 1:
        extents.pop()
    text = "x".join(str(n) for n in extents)
    if len(extents) > 3:
        raise GeometryError(
            f"{path} is {len(extents)}-D ({text}), and a scan is 3-D.", "Split it into one file for each volume."
        )
    if len(extents) < 3 or min(extents) <= 1:
        raise GeometryError(f"{path} is 2-D ({text}), and a scan is 3-D.", "Stack its slices into one file.")
    return (extents[0], extents[1], extents[2])
