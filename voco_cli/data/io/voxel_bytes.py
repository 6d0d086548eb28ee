"""The voxels of a file: found, decompressed with their checksum, and never more of them than the header announces.

What a header says is a claim of whoever made the file. So lengths on disk are compared with it before memory is taken,
decompression stops where the announced voxels end, and a stream counts only when its own checksum holds.
"""

from __future__ import annotations

import bz2
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from isal import igzip_lib
from numpy.typing import NDArray

from voco_cli.data.io.image import require_file
from voco_cli.errors import DataError
from voco_cli.operating_system import free_host_bytes

Encoding = Literal["raw", "gzip", "zlib", "bzip2"]
MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh"}
"""How a further member of the same stream begins; what begins otherwise behind the last one is padding."""
READ_BYTES, PIECE_BYTES = 1 << 18, 1 << 20
MOST_BEHIND_BYTES = 1 << 20
DEFLATE_RATIO = 1032
"""258 bytes take 2 bits at best: nothing that deflate makes is expanded further."""
ALWAYS_THERE_BYTES = 256_000_000
"""Scans up to here are read without a question after free memory, which takes longer than reading a small one."""
ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # its stub says that this is an instance
UNREADABLE = (OSError, EOFError, OverflowError, ValueError, zlib.error, ISAL_ERROR)
"""What decompression raises; OverflowError is isal's for a gzip header of more than half a megabyte."""
AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class VoxelBytes:
    """Where the voxels of a scan lie, and how.

    Attributes:
        path: the scan, as messages call it.
        data: the file that holds them; the scan's own, or one beside it.
        shape_zyx: of the array.
        dtype: as stored, with its byte order.
        encoding: how they are stored.
        begin: byte of the file at which voxels or compressed stream begin.
        length: bytes from there on; none is all that there are.
        skip: bytes before the voxels, counted where nothing is compressed any more.
        decoded: number format that the voxels are given in; none is the stored one.
        slope, intercept: what stored numbers are rescaled by.
        columns_first: the first axis of the array is the fastest, as in Fortran.
    """

    path: Path
    data: Path
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype[Any]
    encoding: Encoding = "raw"
    begin: int = 0
    length: int | None = None
    skip: int = 0
    decoded: np.dtype[Any] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    columns_first: bool = False

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the stored voxels in memory; a Python number, which does not overflow."""
        return math.prod(self.shape_zyx) * int(self.dtype.itemsize)

    @property
    def most_behind(self) -> int:
        """Return the bytes that may follow the voxels as padding: fewer than one layer, whichever way it is cut.

        More would mean that an extent or the number format is not what the header says.
        """
        z, y, x = self.shape_zyx
        return min(min(x * y, y * z, x * z) * int(self.dtype.itemsize) - 1, MOST_BEHIND_BYTES)


def is_gzip(path: Path, begin: int = 0) -> bool:
    """Return whether a gzip stream begins at this byte of a file."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(2) == MAGIC["gzip"]


def check_length(voxels: VoxelBytes) -> tuple[str, ...]:
    """Compare the length on disk with what the header announces, as far as it tells without decompressing all.

    RFC 1952: a gzip member ends with its uncompressed length modulo 2**32. Where that differs from the announced one
    (truncated, but also several members or padding behind) the stream is decompressed to be sure, up to the announced
    length.

    Returns:
        what is to be noted: bytes that were found behind the voxels.
    Raises:
        DataError: missing, shorter than announced, or longer by more than padding.
    """
    require_file(voxels.data)
    found, expected = _stored_bytes(voxels), voxels.skip + voxels.num_bytes
    if voxels.length is not None and found < voxels.length:
        raise _truncated(voxels, voxels.length, found)
    if voxels.encoding == "raw":
        return _compare(voxels, found)
    if voxels.encoding in ("gzip", "zlib") and expected > found * DEFLATE_RATIO:
        raise _truncated(voxels, expected, f"at most {found * DEFLATE_RATIO}")
    if voxels.encoding == "gzip" and not _ends_with_length(voxels, expected % (1 << 32)):
        return _compare(voxels, sum(map(len, _pieces(voxels))))
    return ()


def read_voxels(voxels: VoxelBytes) -> NDArray[Any]:
    """Return the voxels (array_zyx) in native byte order, rescaled where they are to be, after `check_length`.

    Raises:
        DataError: too large for the memory of this machine, truncated, or with a checksum that does not hold.
    """
    native = voxels.dtype.newbyteorder("=")
    decoded = voxels.decoded or native
    is_scaled = (voxels.slope, voxels.intercept) != (1.0, 0.0)
    copied = decoded != native or is_scaled
    _require_memory(voxels, math.prod(voxels.shape_zyx) * decoded.itemsize if copied else 0)
    stored = _stored_voxels(voxels)
    if is_scaled:
        rescaled = np.empty(stored.shape, decoded)
        for plane, target in zip(stored, rescaled, strict=True):  # in double precision, a slice at a time
            target[...] = plane * np.float64(voxels.slope) + voxels.intercept
        return rescaled
    ordered = stored.reshape(stored.shape[::-1]).T if voxels.columns_first else stored
    return np.ascontiguousarray(ordered, dtype=decoded)


def _stored_voxels(voxels: VoxelBytes) -> NDArray[Any]:
    stored = np.empty(voxels.shape_zyx, dtype=voxels.dtype)
    target = stored.reshape(-1).view(np.uint8).data
    if voxels.encoding == "raw":
        _fill_raw(voxels, target)
    else:
        _fill_decompressed(voxels, target)
    return stored


def _stored_bytes(voxels: VoxelBytes) -> int:
    return max(0, voxels.data.stat().st_size - voxels.begin)


def _compare(voxels: VoxelBytes, found: int) -> tuple[str, ...]:
    expected = voxels.skip + voxels.num_bytes
    if found < expected:
        raise _truncated(voxels, expected, found)
    if found > expected + voxels.most_behind:
        raise _too_long(voxels)
    return (f"{found - expected} bytes behind the voxels were not read",) if found > expected else ()


def _ends_with_length(voxels: VoxelBytes, length: int) -> bool:
    with voxels.data.open("rb") as file:
        file.seek(max(voxels.data.stat().st_size - 4, 0))
        return bool(struct.unpack("<I", file.read(4).rjust(4, b"\0"))[0] == length)


def _require_memory(voxels: VoxelBytes, memory_bytes: int) -> None:
    needed = voxels.num_bytes + memory_bytes
    if needed <= ALWAYS_THERE_BYTES:
        return
    free = free_host_bytes()
    if needed > free:
        extents = "x".join(str(n) for n in voxels.shape_zyx[::-1])
        raise DataError(
            f"{voxels.path} needs {needed / 1e9:.1f} GB of memory ({extents} voxels of {voxels.dtype.name}), "
            f"and {free / 1e9:.1f} GB are free.",
            "Read it where there is more memory, or correct its header.",
        )


def _fill_raw(voxels: VoxelBytes, target: memoryview) -> None:
    with voxels.data.open("rb", buffering=0) as file:
        file.seek(voxels.begin + voxels.skip)
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                raise _truncated(voxels, voxels.skip + len(target), voxels.skip + done)
            done += count


def _fill_decompressed(voxels: VoxelBytes, target: memoryview) -> None:
    position = -voxels.skip
    for piece in _pieces(voxels):
        first, last = max(0, -position), len(target) - position
        part = memoryview(piece)[first:last]
        target[position + first : position + first + len(part)] = part
        position += len(piece)
    if position < len(target):
        raise _truncated(voxels, voxels.skip + len(target), voxels.skip + position)
    if position > len(target) + voxels.most_behind:
        raise _too_long(voxels)


def _pieces(voxels: VoxelBytes) -> Iterator[bytes]:
    """Yield what the stream decompresses to, until it ends or was longer than announced by more than padding.

    Raises:
        DataError: damaged, or it stops inside a member, whose checksum is then not there.
    """
    left = voxels.skip + voxels.num_bytes + voxels.most_behind
    try:
        with voxels.data.open("rb") as file:
            file.seek(voxels.begin)
            for piece in _decompressed(file, voxels.encoding, voxels.length):
                yield piece
                left -= len(piece)
                if left < 0:
                    return
    except UNREADABLE as error:
        raise damaged(voxels.path, error) from error


def _decompressed(file: IO[bytes], encoding: Encoding, length: int | None) -> Iterator[bytes]:
    """Decompress member after member, a piece at a time, whatever a piece expands to."""
    left = length
    decoder, source = _decoder(encoding), b""
    while True:
        if decoder.eof:
            source = decoder.unused_data
            source += _read(file, len(MAGIC.get(encoding, b"")) - len(source), left)
            if encoding not in MAGIC or not source.startswith(MAGIC[encoding]):
                return
            decoder = _decoder(encoding)
        elif decoder.needs_input:
            source = _read(file, READ_BYTES, left)
            left = None if left is None else left - len(source)
            if not source:
                raise EOFError
        yield decoder.decompress(source, PIECE_BYTES)
        source = b""


def _read(file: IO[bytes], count: int, left: int | None) -> bytes:
    return file.read(max(0, count if left is None else min(count, left)))


def _decoder(encoding: Encoding) -> Any:
    """Return an object that decompresses one member and compares its checksum (CRC-32; Adler-32 of zlib)."""
    if encoding == "bzip2":
        return bz2.BZ2Decompressor()
    return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP if encoding == "gzip" else igzip_lib.DECOMP_ZLIB)


def damaged(path: Path, error: BaseException) -> DataError:
    """Return the error of a file that could not be decompressed."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, EOFError):
        return DataError(f"{path} is truncated: its compressed data stop too early.", AGAIN)
    reason = re.sub(r"^Error -?[0-9]+ ", "", str(error)).rstrip(".").lower() or type(error).__name__
    return DataError(f"{path} is damaged: {reason}.", AGAIN)


def _where(voxels: VoxelBytes) -> str:
    return "" if voxels.data == voxels.path else f" in {voxels.data.name}"


def _truncated(voxels: VoxelBytes, expected: int, found: int | str) -> DataError:
    return DataError(
        f"{voxels.path} is truncated: its header announces {expected} bytes and {found} are there{_where(voxels)}.",
        AGAIN,
    )


def _too_long(voxels: VoxelBytes) -> DataError:
    return DataError(
        f"{voxels.path} holds more than the {voxels.skip + voxels.num_bytes} bytes that its header announces"
        f"{_where(voxels)}: its extents or its number format cannot be right.",
        AGAIN,
    )
