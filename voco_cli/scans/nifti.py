"""NIfTI: headers by nibabel, voxels in one decompression that checks length and checksum.

Most of the time that a compressed scan takes, from its file to its volume, is decompression; isal takes half of zlib's.

SimpleITK reads the missing part of a truncated ``.nii.gz`` as zeros and takes the qform where most others take the
sform, so its NIfTI reader is not used. Rule here: the sform where its code is above 0 and it is invertible, else the
qform, else voxel sizes alone; a disagreement or a fallback is noted.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from isal import igzip, igzip_lib
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.geometry import Placement, grid_shift_mm, place, same_grid
from voco_cli.scans.header import Header, require_file, volume_shape

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # NIfTI-1 xyzt_units: 1 metre, 2 millimetre, 3 micrometre
CHUNK_BYTES = 1 << 22
MAX_OFFSET = 1 << 30  # extensions of a gigabyte do not exist
GZIP_MAGIC = b"\x1f\x8b"
ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # its stub says that this is an instance
UNREADABLE = (OSError, EOFError, OverflowError, zlib.error, ISAL_ERROR)
"""What decompression raises; OverflowError is isal's for a gzip header of more than half a megabyte."""


def read_nifti_header(path: Path) -> Header:
    """Header of a NIfTI-1 or -2 file (``.nii``, ``.nii.gz``); the length of the voxels is checked too.

    Raises:
        DataError: missing, empty, not NIfTI, or shorter than its header says.
        GeometryError: not 3-D, or sheared.
    """
    raw = _read_raw_header(path)
    header = _to_header(raw, path)
    _check_length(path, _expected_bytes(raw))
    return header


def read_nifti(path: Path) -> tuple[Header, NDArray[Any]]:
    """Header and voxels (array_zyx, stored dtype; float32 or float64 where a slope or intercept applies).

    Raises:
        DataError: as `read_nifti_header`, or a checksum that does not hold.
        GeometryError: as `read_nifti_header`.
    """
    raw = _read_raw_header(path)
    header = _to_header(raw, path)
    _check_length(path, _expected_bytes(raw))
    stored = np.empty(header.shape_xyz[::-1], dtype=raw.get_data_dtype())
    try:
        with _open(path, igzip.IGzipFile) as file:
            file.read(int(raw.get_data_offset()))
            _fill(file, stored.reshape(-1).view(np.uint8).data, path)
            while file.read(CHUNK_BYTES):  # the checksum is compared at the end of the stream
                pass
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    native = stored if stored.dtype.isnative else stored.astype(stored.dtype.newbyteorder("="))
    return header, _rescale(native, raw)


@contextmanager
def _open(path: Path, gzip_file: type[gzip.GzipFile]) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if compressed:
            with gzip_file(fileobj=file, mode="rb") as stream:
                yield cast("IO[bytes]", stream)
        elif path.name.lower().endswith(".gz"):
            raise DataError(f"{path} is not a gzip file, whatever its name says.", "Download it again.")
        else:
            yield file


def _read_raw_header(path: Path) -> Any:
    require_file(path)
    try:
        with _open(path, gzip.GzipFile) as file:  # reads a few kilobytes ahead, isal half a megabyte
            start = file.read(540)
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    kind = _header_kind(start)
    if kind is None:
        raise DataError(f"{path} is not a NIfTI image: its header is not one.", "Check what wrote it.")
    try:
        # Unchecked: nibabel's checks would put spacing 1 where the header says 0. Extensions are not needed.
        header = kind.from_fileobj(io.BytesIO(start[: kind.sizeof_hdr]), check=False)
        header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError) as error:
        raise DataError(f"{path} has a damaged NIfTI header: {error}.") from error
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7 or int(header["dim"][1 : dimensions + 1].min()) < 1:
        raise DataError(f"{path} has a damaged NIfTI header: its extents are {header['dim'].tolist()}.")
    if not header.sizeof_hdr <= float(header["vox_offset"]) < MAX_OFFSET:
        raise DataError(f"{path} has a damaged NIfTI header: voxels at byte {float(header['vox_offset']):g}.")
    return header


def _header_kind(start: bytes) -> Any:
    if len(start) < 348:
        return None
    sizes = {struct.unpack("<i", start[:4])[0], struct.unpack(">i", start[:4])[0]}
    if 348 in sizes and start[344:347] == b"n+1":
        return nib.Nifti1Header
    return nib.Nifti2Header if 540 in sizes and start[4:7] == b"n+2" else None


def _to_header(raw: Any, path: Path) -> Header:
    shape = volume_shape(tuple(int(n) for n in raw.get_data_shape()), path)
    dtype = raw.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype} voxels (colour or complex), and a scan holds one number in each.")
    placement, notes = _placement(raw, shape, path)
    if len(raw.get_data_shape()) > 3:
        notes.append("a trailing axis of length 1 was dropped")
    slope, intercept = _slope(raw)
    rescaled = (slope, intercept) != (1.0, 0.0)
    return Header(
        path=path,
        shape_xyz=shape,
        dtype=_rescaled_dtype(dtype).name if rescaled else dtype.newbyteorder("=").name,
        placement=placement,
        format="nifti",
        notes=(*placement.notes, *notes),
        description=bytes(raw["descrip"].tobytes()).rstrip(b"\0").decode("latin-1"),
    )


def _placement(raw: Any, shape: tuple[int, int, int], path: Path) -> tuple[Placement, list[str]]:
    notes: list[str] = []
    unit = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    if unit != 1.0:
        notes.append(f"lengths were converted to millimetres (factor {unit:g})")
    sform = raw.get_sform() if int(raw["sform_code"]) > 0 else None
    if sform is not None and np.isfinite(sform).all() and abs(np.linalg.det(sform[:3, :3])) < 1e-12:
        notes.append("the sform is not invertible and was ignored")
        sform = None
    qform = _qform(raw, path) if sform is None or int(raw["qform_code"]) > 0 else None
    if sform is not None:
        chosen = _from_ras(sform, unit, path)
        if qform is not None:
            notes += _disagreement(chosen, qform, unit, shape, path)
        return chosen, notes
    if qform is not None:
        return _from_ras(qform, unit, path), notes
    notes.append("neither sform nor qform is set; voxel axes are taken as L, A, S with the middle voxel at 0")
    return _from_ras(raw.get_base_affine(), unit, path), notes


def _qform(raw: Any, path: Path) -> NDArray[np.float64] | None:
    if int(raw["qform_code"]) <= 0:
        return None
    try:
        return np.asarray(raw.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path} has a qform that cannot be used: {error}.") from error


def _disagreement(
    chosen: Placement, qform: NDArray[np.float64], unit: float, shape: tuple[int, int, int], path: Path
) -> list[str]:
    try:
        other = _from_ras(qform, unit, path)
    except GeometryError:
        return ["the sform was taken; the qform cannot be used"]
    if same_grid(chosen, other, shape):
        return []
    shift_mm = grid_shift_mm(chosen, other, shape)
    return [f"sform and qform disagree by up to {shift_mm:.2f} mm; the sform was taken"]


def _from_ras(affine: NDArray[np.float64], unit: float, path: Path) -> Placement:
    axes = RAS_TO_LPS @ np.asarray(affine[:3, :3], dtype=np.float64) * unit
    return place(axes, RAS_TO_LPS @ np.asarray(affine[:3, 3], dtype=np.float64) * unit, path)


def _expected_bytes(raw: Any) -> int:
    voxels = int(np.prod([int(n) for n in raw.get_data_shape()], dtype=object))
    return int(raw.get_data_offset()) + voxels * int(raw.get_data_dtype().itemsize)


def _check_length(path: Path, expected: int) -> None:
    """Compare the uncompressed length with the header's, at the cost of 4 bytes where the file is one gzip member.

    RFC 1952: a member ends with its uncompressed length modulo 2**32. Where that differs (truncated, but also several
    members or a padded file) the stream is decompressed to be sure.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP_MAGIC
            if compressed:
                file.seek(max(size - 4, 0))
                if struct.unpack("<I", file.read(4).rjust(4, b"\0"))[0] == expected % (1 << 32):
                    return
        found = _stream_length(path) if compressed else size
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    if found < expected:
        raise DataError(
            f"{path} is truncated: its header announces {expected} bytes and {found} are there.",
            "Copy or download it again.",
        )


def _stream_length(path: Path) -> int:
    length = 0
    with _open(path, igzip.IGzipFile) as file:
        while chunk := file.read(CHUNK_BYTES):
            length += len(chunk)
    return length


def _fill(file: IO[bytes], target: memoryview, path: Path) -> None:
    done = 0
    while done < len(target):
        count = cast("io.BufferedIOBase", file).readinto(target[done : done + CHUNK_BYTES])
        if not count:
            raise DataError(f"{path} is truncated: {len(target) - done} of {len(target)} bytes of voxels are missing.")
        done += count


def _slope(raw: Any) -> tuple[float, float]:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    # The standard: a slope of 0 means that none is set; NaN is what nibabel writes for the same.
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(intercept):
        return 1.0, 0.0
    return slope, intercept


def _rescaled_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize > 4 else np.float32)


def _rescale(stored: NDArray[Any], raw: Any) -> NDArray[Any]:
    slope, intercept = _slope(raw)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    return (stored * np.float64(slope) + intercept).astype(_rescaled_dtype(stored.dtype))


def _damaged(path: Path, error: BaseException) -> DataError:
    if isinstance(error, DataError):
        return error
    if isinstance(error, EOFError):
        return DataError(f"{path} is truncated: its compressed data stop too early.", "Copy or download it again.")
    return DataError(f"{path} is damaged: {error}.", "Copy or download it again.")
