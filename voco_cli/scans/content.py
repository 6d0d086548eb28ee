"""A hash of what a scan shows, whatever its file's name, format, number format or order of axes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.scans.geometry import AXIS_LETTERS_LPS, axis_codes
from voco_cli.scans.scan import Scan

HASH_BYTES = 16


def voxel_hash(scan: Scan) -> str:
    """Hash of the decoded voxels in LPS order, 32 hexadecimal digits; place and spacing do not count.

    Whole numbers hash alike in every number format, so that an int16 and a float32 copy are recognised.
    """
    array = _in_lps(scan)
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=HASH_BYTES)
    for plane in array:
        digest.update(np.ascontiguousarray(_canonical(plane)).data)
    return digest.hexdigest()


def _in_lps(scan: Scan) -> NDArray[Any]:
    """The array as z, y, x growing to S, P, L (a view)."""
    codes = axis_codes(scan.direction)
    world_of_voxel = [next(i for i, pair in enumerate(AXIS_LETTERS_LPS) if code in pair) for code in codes]
    # Array axis 2 - i is voxel axis i; the wanted array axis 2 - w is world axis w.
    order = [2 - world_of_voxel.index(world) for world in (2, 1, 0)]
    flips = [codes[world_of_voxel.index(world)] == AXIS_LETTERS_LPS[world][0] for world in (2, 1, 0)]
    return scan.array_zyx.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _canonical(plane: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int32 where they fit, whatever they were stored as; the rest as float64."""
    if plane.dtype.kind in "iub" and plane.dtype.itemsize < 4:
        return plane.astype(np.int32)
    limits = np.iinfo(np.int32)
    within = limits.min <= plane.min() and plane.max() <= limits.max  # false for NaN
    if within and (plane.dtype.kind in "iu" or (plane == np.rint(plane)).all()):
        return plane.astype(np.int32)
    return plane.astype(np.float64)
