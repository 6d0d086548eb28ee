"""A hash of what a scan shows, so that the same scan is recognised under another name, container or axis order."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.cache.orientation import axes_to_ras, ras_affine
from voco_cli.scans.scan import Scan


def voxel_hash(scan: Scan) -> str:
    """SHA-256 of shape and voxels, in RAS order and the smallest common number format.

    Whole numbers are hashed as int16 (int32, int64 where they do not fit) whatever type the file has, others as
    float32. Spacing and origin do not count: converters round them.

    Returns:
        64 hexadecimal digits.
    """
    axes, flipped = axes_to_ras(ras_affine(scan))
    turned = scan.array_zyx.transpose([2 - axis for axis in reversed(axes)])
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in reversed(flipped))]
    dtype = _canonical_dtype(scan.array_zyx)
    digest = hashlib.sha256(repr(turned.shape).encode())
    for plane in turned:
        digest.update(np.ascontiguousarray(plane, dtype=dtype).data)
    return digest.hexdigest()


def _canonical_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    if array.dtype == np.int16:
        return np.dtype("<i2")
    if np.issubdtype(array.dtype, np.inexact) and not all(bool((plane == np.rint(plane)).all()) for plane in array):
        return np.dtype("<f4")
    least, most = array.min(), array.max()
    for name in ("<i2", "<i4"):
        limits = np.iinfo(name)
        if limits.min <= least and most <= limits.max:
            return np.dtype(name)
    return np.dtype("<i8")
