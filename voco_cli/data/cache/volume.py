"""A stored volume: cheap to hand to a loader process, opened where it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from voco_cli.config.schema import Cache
from voco_cli.data.cache.grid import GridMap, IntXYZ
from voco_cli.data.io.scratch import header_copy, local_copy
from voco_cli.errors import DataError, GeometryError, VocoError
from voco_cli.object_stores import RemotePath

META_KEY = "voco"
VALUES_KEY = "voco_label_values"
"""Of label maps: their values above 0. Beside the description, which earlier versions read, too."""

FULL_SCALE = {"uint8": 255.0, "int16": 32767.0, "float16": 1.0}
"""What 1.0 is stored as: divide by it to get back to [0, 1]."""


class VolumeMetadata(BaseModel):
    """The description in a stored array: nothing of whose scan it is, nor of where that lay.

    Caches are shared, and names of patients, which folders and files bear too, are private.

    Attributes:
        format: version of the layout.
        key: name of the entry.
        voxel_hash: of the own voxels of the scan or label map, see `voxel_hash` in data/io/image.py.
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
    """Return [0, 1] as numbers of the stored type, C order: round(x * 255), round(x * 32767), or float16."""
    if dtype == "float16":
        return np.ascontiguousarray(volume_xyz.astype(np.float16))
    # Rounded in the order the voxels lie in memory, and only then turned: a byte is cheaper to move than a float.
    memory_axes = np.argsort(volume_xyz.strides)[::-1]
    stored = np.empty([volume_xyz.shape[axis] for axis in memory_axes], dtype=dtype)
    for target, plane in zip(stored, volume_xyz.transpose(memory_axes), strict=True):
        target[...] = np.rint(plane * np.float32(FULL_SCALE[dtype]))
    return np.ascontiguousarray(stored.transpose(np.argsort(memory_axes)))


def compress(stored: NDArray[Any], cache: Cache) -> blosc2.NDArray:
    """Compress into a blosc2 array in memory; single bytes are not shuffled (shuffled CT is larger and slower)."""
    shape = stored.shape
    chunks = tuple(min(chunk, size) for chunk, size in zip(cache.chunk_vox, shape, strict=True))
    blocks = tuple(min(block, chunk) for block, chunk in zip(cache.block_vox, chunks, strict=True))
    codec = blosc2.Codec.ZSTD if cache.codec == "zstd" else blosc2.Codec.LZ4
    shuffle = blosc2.Filter.SHUFFLE if stored.itemsize > 1 else blosc2.Filter.NOFILTER
    params = blosc2.CParams(codec=codec, clevel=cache.level, filters=[shuffle], filters_meta=[0], nthreads=1)
    return blosc2.asarray(stored, chunks=chunks, blocks=blocks, cparams=params)


def to_file_bytes(
    array: blosc2.NDArray, metadata: VolumeMetadata, label_values: tuple[int, ...] | None = None
) -> bytes:
    """Return the whole content of a ``.b2nd`` file, made in memory: a full disk then shows as an ordinary OSError."""
    array.schunk.vlmeta[META_KEY] = metadata.model_dump_json()
    if label_values is not None:
        array.schunk.vlmeta[VALUES_KEY] = list(label_values)
    return bytes(array.to_cframe())


def values_of(label_xyz: NDArray[Any]) -> tuple[int, ...]:
    """Return the values above 0 of a label map."""
    return tuple(value for value in np.flatnonzero(np.bincount(label_xyz.ravel())).tolist() if value)


def stored_hash(stored: NDArray[Any]) -> str:
    """Return BLAKE2b of an array's voxels in C order, 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(stored).data, digest_size=16).hexdigest()


RECHECK = "`--recheck` on voco pretrain or finetune makes again what is gone or does not open"
REPAIR = "voco cache verify --repair removes damaged volumes; the next build makes them again"
OPEN_VOLUMES = 64
"""Handles that a process keeps; each is a few kilobytes, and no open file."""


@dataclass(frozen=True)
class StoredVolume:
    """One preprocessed volume on disk or in an object store, and its label map if it has one.

    Only the paths travel between processes. Every process opens the file when it first reads, and keeps the last few.
    Of a store's the description is read off the ends of the file, and voxels off a local copy: blosc2 reads no ranges.

    Attributes:
        path, label_path: files of the cache.
        scan: what it was made from, for messages; the file itself does not say whose it is.
    """

    path: Path
    label_path: Path | None = None
    scan: Path | None = field(default=None, compare=False)

    @property
    def shape_xyz(self) -> IntXYZ:
        """Return the voxels along x, y, z."""
        return _description(self.path).shape_xyz

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number format of the stored voxels."""
        return _description(self.path).dtype

    @property
    def metadata(self) -> VolumeMetadata:
        """Return the description in the file."""
        return _metadata(self.path)

    @property
    def voxel_hash(self) -> str:
        """Return the hash of the scan's voxels: equal for the same scan under another name or in another container."""
        return self.metadata.voxel_hash

    @property
    def label_hash(self) -> str | None:
        """Return the hash of the label map's voxels; none where there is no label map."""
        return None if self.label_path is None else _metadata(self.label_path).voxel_hash

    @property
    def label_values(self) -> tuple[int, ...]:
        """Return the values above 0 of the label map, as noted in its file, or else of its voxels.

        Raises:
            DataError: there is no label map, or it is damaged.
        """
        noted = None if self.label_path is None else _description(self.label_path).label_values
        return values_of(self.read_label((0, 0, 0), self.shape_xyz)) if noted is None else noted

    def read(self, start_xyz: IntXYZ, size_xyz: IntXYZ, out_xyz: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read a region of the volume, axes x, y, z, stored number format.

        Args:
            out_xyz: C-contiguous memory that takes it; none is memory of its own.
        Raises:
            GeometryError: the region reaches outside the volume.
            DataError: the file is missing or damaged.
        """
        return _read(self.path, self.scan, start_xyz, size_xyz, out_xyz)

    def is_whole_blocks(self, start_xyz: Sequence[int], size_xyz: Sequence[int]) -> bool:
        """Return whether regions of this size, side by side from this corner on, share no block (decoded once each)."""
        described = _description(self.path)
        pieces = zip(described.chunks, described.blocks, strict=True)
        units = (block if chunk % block == 0 else chunk for chunk, block in pieces)  # blocks begin anew with each chunk
        return all(
            start % unit == size % unit == 0 for unit, start, size in zip(units, start_xyz, size_xyz, strict=True)
        )

    def read_label(self, start_xyz: IntXYZ, size_xyz: IntXYZ) -> NDArray[Any]:
        """Read the same region of the label map.

        Raises:
            DataError: there is no label map, or it is damaged.
            GeometryError: the region reaches outside the volume.
        """
        if self.label_path is None:
            raise DataError(f"{self.path} was cached without a label map.")
        return _read(self.label_path, self.scan, start_xyz, size_xyz)


def describe(path: Path) -> tuple[IntXYZ, VolumeMetadata]:
    """Return the voxels along x, y, z of a stored array and its description, from the file as it is now.

    Raises:
        DataError: it is missing or does not open.
    """
    described = _read_description(path)
    return described.shape_xyz, _parsed(described, path)


def close_handles() -> None:
    """Open files anew that are read from now on: some were made again."""
    _open_in_process.cache_clear()
    _description.cache_clear()
    _metadata.cache_clear()


def damage(path: Path) -> str | None:
    """Say what is wrong with a stored array, or None: every voxel is decoded, and compared with the recorded hash."""
    try:
        with local_copy(path) as local:
            array = _open_fresh(local)
            metadata = VolumeMetadata.model_validate_json(array.schunk.vlmeta[META_KEY])
            found = stored_hash(array[...])
    except (DataError, RuntimeError, ValueError, KeyError, OSError) as error:
        return f"cannot be decoded: {str(error) or type(error).__name__}"
    if found != metadata.stored_hash:
        return "holds other voxels than were written"
    return None


def _read(
    path: Path, scan: Path | None, start_xyz: IntXYZ, size_xyz: IntXYZ, out_xyz: NDArray[Any] | None = None
) -> NDArray[Any]:
    with local_copy(path, unchanging=True) as local:
        array = _open(local)
        region = np.empty(size_xyz, array.dtype) if out_xyz is None else out_xyz
        assert region.shape == size_xyz
        assert region.dtype == array.dtype
        stop_xyz = tuple(start + size for start, size in zip(start_xyz, size_xyz, strict=True))
        if min(start_xyz) < 0 or any(stop > n for stop, n in zip(stop_xyz, array.shape, strict=True)):
            raise GeometryError(f"The region {start_xyz} to {stop_xyz} reaches outside {path} of {array.shape} voxels.")
        try:
            array.get_slice_numpy(region, (start_xyz, stop_xyz))
        except RuntimeError as error:
            raise _damaged(path, error, scan) from error
    return region


def _open(path: Path) -> blosc2.NDArray:
    return _open_in_process(str(path), os.getpid())


@lru_cache(maxsize=OPEN_VOLUMES)
def _open_in_process(path: str, process_id: int) -> blosc2.NDArray:
    # The process is part of the key: a forked loader must not use the handles of its parent.
    return _open_fresh(Path(path))


@dataclass(frozen=True)
class Description:
    """What a stored array says of itself without its voxels: form, number format, pieces, our metadata as text.

    Attributes:
        label_values: those above 0 of a label map; None of volumes, and of label maps of earlier versions.
    """

    shape_xyz: IntXYZ
    dtype: np.dtype[Any]
    chunks: IntXYZ
    blocks: IntXYZ
    metadata_json: str | None
    label_values: tuple[int, ...] | None


@lru_cache(maxsize=OPEN_VOLUMES)
def _description(path: Path) -> Description:
    return _read_description(path) if isinstance(path, RemotePath) else _described(_open(path))


def _read_description(path: Path) -> Description:
    if not isinstance(path, RemotePath):
        return _described(_open_fresh(path))
    try:
        with header_copy(path) as ends:
            return _described(_open_fresh(ends))
    except (VocoError, FileNotFoundError):  # all that is known of a file is at its ends, unless it is damaged
        with local_copy(path, unchanging=True) as local:
            return _described(_open(local))


def _described(array: blosc2.NDArray) -> Description:
    said, metadata_json, values = array.schunk.vlmeta, None, None
    try:
        metadata_json = str(said[META_KEY])
        values = tuple(int(value) for value in said[VALUES_KEY]) if VALUES_KEY in said else None
    except (KeyError, RuntimeError):  # none, or damaged
        pass
    return Description(tuple(array.shape), array.dtype, tuple(array.chunks), tuple(array.blocks), metadata_json, values)


@lru_cache(maxsize=OPEN_VOLUMES)
def _metadata(path: Path) -> VolumeMetadata:
    return _parsed(_description(path), path)


def _parsed(described: Description, path: Path) -> VolumeMetadata:
    try:
        return VolumeMetadata.model_validate_json(described.metadata_json or "")
    except ValueError as error:
        raise _damaged(path, error) from error


def _open_fresh(path: Path) -> blosc2.NDArray:
    if not path.is_file():
        raise DataError(f"{path} is not in the cache any more.", hint=RECHECK)
    try:
        # Not mapped into memory: a file that is cut while it is in use would end the process by SIGBUS, and a read
        # error of the disk too. A crop of 64 voxels takes as long either way.
        array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
    except (RuntimeError, ValueError, OSError) as error:
        raise _damaged(path, error, hint=RECHECK) from error
    if not isinstance(array, blosc2.NDArray) or array.ndim != 3:
        raise DataError(f"{path} is not a cached volume.", hint=RECHECK)
    return array


def _damaged(path: Path, error: Exception, scan: Path | None = None, hint: str = REPAIR) -> DataError:
    of_scan = f", the cached volume of {scan}," if scan else ""
    return DataError(f"{path}{of_scan} is damaged ({str(error) or type(error).__name__}).", hint=hint)
