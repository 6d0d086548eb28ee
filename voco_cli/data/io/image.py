"""A scan in memory: the array and where it lies in the patient."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.geometry import AXIS_LETTERS_LPS, Placement, axis_codes, storage_order
from voco_cli.errors import DataError, GeometryError


@dataclass(frozen=True)
class Scan:
    """One 3-D scan as SimpleITK sees it.

    Attributes:
        array_zyx: voxel values; axis 0 is z (slices), axis 2 is x (fastest in the file).
        spacing_xyz_mm: distance of voxel centres along x, y, z, mm.
        origin_xyz_mm: centre of voxel (0, 0, 0) in world coordinates (LPS), mm.
        direction: 3x3, orthonormal; column i is the world direction (LPS) of voxel axis i in order x, y, z.
        path: file or, for a DICOM series, the folder it came from.
        notes: what was repaired or chosen on reading, one sentence each.
    """

    array_zyx: NDArray[Any]
    spacing_xyz_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    path: Path
    notes: tuple[str, ...] = ()

    @property
    def shape_xyz(self) -> tuple[int, int, int]:
        """Return the voxels along x, y, z."""
        z, y, x = self.array_zyx.shape
        return (x, y, z)


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
        """Return axis codes such as ``RAS``: where each voxel axis grows to."""
        return axis_codes(self.placement.direction)


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
    """Return the three extents of a volume, voxels; trailing axes of length 1 are dropped.

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


LARGEST_LABEL = 65_535
ROUNDING = 1e-3
"""So far from a whole number, a value is one that arithmetic left inexact (a slope in the header, float16)."""
IGNORE = "ignore"
"""nnU-Net's name of the label of voxels that nobody annotated."""


def ignored_value(names: Mapping[str, str]) -> int | None:
    """Return the label value that is called ignore, of label values to names; none where none is."""
    values = (int(value) for value, name in names.items() if name.lower() == IGNORE and value.isdigit() and int(value))
    return next(values, None)


def whole_labels(array_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return a label map in the smallest number format that holds it, uint8 or uint16.

    Values within ``ROUNDING`` of a whole number are rounded; `rounding_note` says so.

    Raises:
        ValueError: values that are not whole numbers from 0 to 65535; the message says which.
    """
    if not array_zyx.size:
        return np.zeros(array_zyx.shape, np.uint8)
    low, high = array_zyx.min(), array_zyx.max()
    if not (low >= -ROUNDING and high <= LARGEST_LABEL + ROUNDING):  # false for NaN, too
        raise ValueError(
            f"holds values from {low:g} to {high:g}, and labels are whole numbers from 0 to {LARGEST_LABEL}"
        )
    fits = np.uint8 if round(float(high)) <= np.iinfo(np.uint8).max else np.uint16
    if array_zyx.dtype.kind != "f":
        return array_zyx.astype(fits, copy=False)
    rounded = np.rint(array_zyx)
    off = np.abs(array_zyx - rounded) > ROUNDING
    if off.any():
        raise ValueError(f"holds the value {array_zyx[off].flat[0]:g}, and labels are whole numbers")
    whole: NDArray[Any] = rounded.astype(fits)
    return whole


def rounding_note(array_zyx: NDArray[Any]) -> str | None:
    """Return a note on values that `whole_labels` rounds; none where all are whole."""
    if array_zyx.dtype.kind != "f" or not array_zyx.size:
        return None
    apart = float(np.abs(array_zyx - np.rint(array_zyx)).max())
    return f"label values up to {apart:.1g} off whole numbers were rounded" if apart else None


HASH_BYTES = 16


def voxel_hash(scan: Scan) -> str:
    """Return a hash of the decoded voxels in LPS order, 32 hexadecimal digits; place and spacing do not count.

    Whole numbers hash alike in every number format, so that an int16 and a float32 copy are recognised.
    """
    array = _in_lps(scan)
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=HASH_BYTES)
    for plane in array:
        digest.update(np.ascontiguousarray(_canonical(plane)).data)
    return digest.hexdigest()


def _in_lps(scan: Scan) -> NDArray[Any]:
    """Return the array as z, y, x growing to S, P, L (a view)."""
    codes = axis_codes(scan.direction)
    world_of_voxel = [next(i for i, pair in enumerate(AXIS_LETTERS_LPS) if code in pair) for code in codes]
    # Array axis 2 - i is voxel axis i; the wanted array axis 2 - w is world axis w.
    order = [2 - world_of_voxel.index(world) for world in (2, 1, 0)]
    flips = [codes[world_of_voxel.index(world)] == AXIS_LETTERS_LPS[world][0] for world in (2, 1, 0)]
    return scan.array_zyx.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _canonical(plane: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as int32 where they fit, whatever they were stored as; the rest as float64."""
    if plane.dtype.kind in "iub" and plane.dtype.itemsize < 4:
        return plane.astype(np.int32)
    limits = np.iinfo(np.int32)
    within = limits.min <= plane.min() and plane.max() <= limits.max  # false for NaN
    if within and (plane.dtype.kind in "iu" or (plane == np.rint(plane)).all()):
        return plane.astype(np.int32)
    return plane.astype(np.float64)


SURELY_CT_BELOW = -500
"""A scan with values below this is CT: no other modality stores such values by convention."""
WARMEST_AIR_HU = -800
BELOW_AIR_HU = -1200
FEW = 0.01
SAMPLED_VOXELS = 500_000


def looks_like_ct(array_zyx: NDArray[Any]) -> bool:
    """Return whether the least value can only be air in HU (or what is stored outside the field of view)."""
    return float(array_zyx.min()) <= SURELY_CT_BELOW


def hounsfield_doubt(array_zyx: NDArray[Any]) -> str | None:
    """Say why the voxels of a CT may not be in HU, in half a sentence; None where nothing speaks against it.

    A CT that was cut inside the body holds no air and is doubted, too: nothing tells it from one whose values were
    shifted.
    """
    lowest = float(array_zyx.min())
    if lowest > WARMEST_AIR_HU:
        return f"its lowest value is {lowest:g}, and air in a CT is near -1000 HU"
    some = array_zyx.reshape(-1)[:: max(1, array_zyx.size // SAMPLED_VOXELS)]
    # One value far below air is what scanners store outside their field of view; a whole range of them is air.
    share = float(np.mean((some < BELOW_AIR_HU) & (some != lowest)))
    if share > FEW:
        return f"{share:.0%} of its values lie below {BELOW_AIR_HU}, and air in a CT is near -1000 HU"
    return None


LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_affine(scan: Scan) -> NDArray[np.float64]:
    """Return the affine of a scan's own grid: voxel (x, y, z) to world coordinates in RAS, mm.

    4x4 float64, as nibabel and MONAI have it; ITK's world is LPS, so that two rows change their sign.
    """
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = scan.direction * np.asarray(scan.spacing_xyz_mm)
    affine_lps[:3, 3] = scan.origin_xyz_mm
    return LPS_TO_RAS @ affine_lps


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
