"""From a volume in [0, 1] to the bytes of a blosc2 file, and what is recorded in it."""

from __future__ import annotations

import hashlib
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from voco_cli.cache.grid_map import GridMap
from voco_cli.settings.sections import Cache

META_KEY = "voco"

FULL_SCALE = {"uint8": 255.0, "int16": 32767.0, "float16": 1.0}
"""What 1.0 is stored as."""


class VolumeMetadata(BaseModel):
    """What a stored array says about itself: nothing of whose scan it is, nor of where that lay.

    Caches are shared, and names of patients, which folders and files bear too, are private.

    Attributes:
        format: version of the layout.
        key: name of the entry.
        voxel_hash: of the own voxels of the scan or label map, see `scans.content`.
        stored_hash: BLAKE2b of the stored voxels in C order, to find damage.
        settings: those that change a voxel.
        record: how the voxels lie in the scan's own grid.
        notes: what was repaired on reading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    key: str
    voxel_hash: str
    stored_hash: str
    settings: dict[str, Any]
    record: GridMap
    notes: tuple[str, ...] = ()


def quantise(volume_xyz: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """[0, 1] as numbers of the stored type, C order: round(x * 255), round(x * 32767), or float16."""
    if dtype == "float16":
        return np.ascontiguousarray(volume_xyz.astype(np.float16))
    # Rounded in the order the voxels lie in memory, and only then turned: a byte is cheaper to move than a float.
    memory_axes = np.argsort(volume_xyz.strides)[::-1]
    stored = np.empty([volume_xyz.shape[axis] for axis in memory_axes], dtype=dtype)
    for target, plane in zip(stored, volume_xyz.transpose(memory_axes), strict=True):
        target[...] = np.rint(plane * np.float32(FULL_SCALE[dtype]))
    return np.ascontiguousarray(stored.transpose(np.argsort(memory_axes)))


def compress(stored: NDArray[Any], cache: Cache) -> blosc2.NDArray:
    """A blosc2 array in memory; no filter for single bytes (shuffled CT is larger and slower), shuffle otherwise."""
    shape = stored.shape
    chunks = tuple(min(chunk, size) for chunk, size in zip(cache.chunk_vox, shape, strict=True))
    blocks = tuple(min(block, chunk) for block, chunk in zip(cache.block_vox, chunks, strict=True))
    codec = blosc2.Codec.ZSTD if cache.codec == "zstd" else blosc2.Codec.LZ4
    shuffle = blosc2.Filter.SHUFFLE if stored.itemsize > 1 else blosc2.Filter.NOFILTER
    params = blosc2.CParams(codec=codec, clevel=cache.level, filters=[shuffle], filters_meta=[0], nthreads=1)
    return blosc2.asarray(stored, chunks=chunks, blocks=blocks, cparams=params)


def to_file_bytes(array: blosc2.NDArray, metadata: VolumeMetadata) -> bytes:
    """The whole content of a ``.b2nd`` file. Made in memory: a full disk then shows as an ordinary OSError."""
    array.schunk.vlmeta[META_KEY] = metadata.model_dump_json()
    return bytes(array.to_cframe())


def stored_hash(stored: NDArray[Any]) -> str:
    """BLAKE2b of an array's voxels in C order, 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(stored).data, digest_size=16).hexdigest()
