"""NIfTI, one file or a pair: headers by nibabel, voxels in one decompression that checks length and checksum.

Most of the time that a compressed scan takes, from its file to its volume, is decompression; isal takes half of zlib's.

SimpleITK reads the missing part of a truncated ``.nii.gz`` as zeros and takes the qform where most others take the
sform, so its NIfTI reader is not used. The place of an image stands in two forms, either of which may be missing,
rounded or wrong. Rule here: the sform where its code is above 0 and it is invertible, else the qform, else voxel sizes
alone; a disagreement, a repair or a fallback is noted.
"""

from __future__ import annotations

import gzip
import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voco_cli.data.io.geometry import MOST_MM, Placement, grid_shift_mm, place, same_grid, unit_notes
from voco_cli.data.io.image import Header, require_file, volume_shape
from voco_cli.data.io.voxel_bytes import UNREADABLE, VoxelBytes, check_length, damaged, is_gzip
from voco_cli.errors import DataError, GeometryError

MAX_OFFSET = 1 << 30  # extensions of a gigabyte do not exist
HEADERS, DATA = (".hdr", ".hdr.gz"), (".img", ".img.gz")
PAIR = HEADERS + DATA
FIRST_VERSION = {b"n+1": nib.Nifti1Header, b"ni1": nib.nifti1.Nifti1PairHeader}
SECOND_VERSION = {b"n+2": nib.Nifti2Header, b"ni2": nib.nifti2.Nifti2PairHeader}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # NIfTI-1 xyzt_units: 1 metre, 2 millimetre, 3 micrometre
FLOAT_ROUNDING = 1e-6
ROUNDED_QUATERNION = 2e-3
"""By this much three numbers of three digits may exceed the squared length of 1."""


def nifti_layout(path: Path) -> tuple[Header, VoxelBytes]:
    """Return the header of a NIfTI-1 or -2 file or pair, and where its voxels lie; their length is checked.

    Voxels are float32 or float64 where a slope or intercept applies.

    Args:
        path: ``.nii``, ``.nii.gz``, or either file of a pair ``.hdr`` and ``.img``.
    Raises:
        DataError: missing, empty, not NIfTI, or of another length than its header says.
        GeometryError: not 3-D, or sheared.
    """
    raw, _, data = _read_raw_header(path)
    require_file(data)
    header = _to_header(raw, path)
    voxels = _voxels(raw, path, data, header)
    return replace(header, notes=(*header.notes, *check_length(voxels))), voxels


def nifti_files(path: Path) -> tuple[Path, Path]:
    """Return the file with the header and the file with the voxels; the same unless it is a pair.

    Raises:
        DataError: the other file of the pair is missing.
    """
    return _read_raw_header(path)[1:]


def is_pair(path: Path) -> bool:
    """Return whether a file called ``.hdr`` or ``.img`` is of a NIfTI or ANALYZE image: its header begins as one."""
    ending = next((ending for ending in PAIR if path.name.lower().endswith(ending)), None)
    header = _of_pair(path, HEADERS) if ending else None
    if header is None or not header.is_file():
        return False
    try:
        return _begins_as_header(_first_bytes(header, 4))
    except DataError:
        return False


def _of_pair(path: Path, endings: tuple[str, ...]) -> Path | None:
    """Return the file of this pair that has one of these endings, in small letters or capitals."""
    ending = next(ending for ending in PAIR if path.name.lower().endswith(ending))
    if ending in endings:
        return path
    stem = path.name[: -len(ending)]
    names = (f"{stem}{other}" for one in endings for other in (one, one.upper()))
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _begins_as_header(start: bytes) -> bool:
    return len(start) >= 4 and bool({348, 540} & {struct.unpack(order, start[:4])[0] for order in ("<i", ">i")})


def _first_bytes(path: Path, count: int) -> bytes:
    require_file(path)
    try:
        compressed = is_gzip(path)
        if not compressed and path.name.lower().endswith(".gz"):
            raise DataError(f"{path} is not a gzip file, whatever its name says.", "Download it again.")
        with gzip.open(path) if compressed else path.open("rb") as file:
            return file.read(count)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _read_raw_header(path: Path) -> tuple[Any, Path, Path]:
    """Read the header, unchecked by nibabel; return it, its file, and the file that holds the voxels."""
    paired = path.name.lower().endswith(PAIR)
    file = _of_pair(path, HEADERS) if paired else path
    if file is None:
        raise DataError(f"{path} has no header beside it: {path.name.split('.img')[0]}.hdr is missing.", "Copy both.")
    start = _first_bytes(file, 540)
    kind = _header_kind(start, path)
    try:
        # Unchecked: nibabel's checks would put spacing 1 where the header says 0. Extensions are not needed.
        header = kind.from_fileobj(io.BytesIO(start[: kind.sizeof_hdr]), check=False)
        header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError) as error:
        raise DataError(f"{path} has a damaged NIfTI header: {error}.") from error
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7 or int(header["dim"][1 : dimensions + 1].min()) < 1:
        raise DataError(f"{path} has a damaged NIfTI header: its extents are {header['dim'].tolist()}.")
    lowest = header.sizeof_hdr if header.is_single else 0
    if not lowest <= float(header["vox_offset"]) < MAX_OFFSET:
        raise DataError(f"{path} has a damaged NIfTI header: voxels at byte {float(header['vox_offset']):g}.")
    if header.is_single:
        return header, file, file
    data = _of_pair(path, DATA) if paired else None
    if data is None:
        raise DataError(f"{path} has its voxels in a file called .img, which is not beside it.", "Copy both.")
    return header, file, data


def _header_kind(start: bytes, path: Path) -> Any:
    """Return the class of a header by its size and its four letters.

    Raises:
        DataError: it is of ANALYZE, or of nothing that is known.
    """
    if len(start) >= 348 and _begins_as_header(start):
        kind = FIRST_VERSION.get(start[344:347]) or SECOND_VERSION.get(start[4:7])
        if kind is not None and kind.sizeof_hdr <= len(start):
            return kind
        if kind is None and path.name.lower().endswith(PAIR):
            raise DataError(
                f"{path} is an ANALYZE 7.5 image, which does not state its orientation.",
                "Convert it to NIfTI with the program that wrote it, and check left and right.",
            )
    raise DataError(f"{path} is not a NIfTI image: its header is not one.", "Check what wrote it.")


def _to_header(raw: Any, path: Path) -> Header:
    shape = volume_shape(tuple(int(n) for n in raw.get_data_shape()), path)
    dtype = raw.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype} voxels (colour or complex), and a scan holds one number in each.")
    rescaled = "float64" if dtype.kind == "f" and dtype.itemsize > 4 else "float32"
    placement, notes = _placement(raw, shape, path)
    if len(raw.get_data_shape()) > 3:
        notes.append("a trailing axis of length 1 was dropped")
    return Header(
        path=path,
        shape_xyz=shape,
        dtype=dtype.newbyteorder("=").name if _slope(raw) == (1.0, 0.0) else rescaled,
        placement=placement,
        format="nifti",
        notes=(*placement.notes, *notes),
        description=bytes(raw["descrip"].tobytes()).rstrip(b"\0").decode("latin-1"),
    )


def _voxels(raw: Any, path: Path, data: Path, header: Header) -> VoxelBytes:
    x, y, z = header.shape_xyz
    slope, intercept = _slope(raw)
    return VoxelBytes(
        path,
        data,
        (z, y, x),
        raw.get_data_dtype(),
        "gzip" if is_gzip(data) else "raw",
        skip=int(raw.get_data_offset()),
        decoded=np.dtype(header.dtype),
        slope=slope,
        intercept=intercept,
    )


def _slope(raw: Any) -> tuple[float, float]:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    # The standard: a slope of 0 means that none is set; NaN is what nibabel writes for the same.
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(intercept):
        return 1.0, 0.0
    return slope, intercept


def _placement(raw: Any, shape: tuple[int, int, int], path: Path) -> tuple[Placement, list[str]]:
    """Return where the voxels lie, and what is to be noted of it.

    Args:
        raw: the header as nibabel parsed it, unchecked; negative voxel sizes in it are made positive.
        shape: voxels along x, y, z.
    Raises:
        GeometryError: sheared, or neither form can be used and one is set.
    """
    unit = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    notes = unit_notes(unit)
    pixdim = np.array(raw["pixdim"][1:4], dtype=np.float64)
    if (pixdim < 0).any():
        notes.append("negative voxel sizes were taken as positive")
        raw["pixdim"][1:4] = np.abs(pixdim)
    qform, faults, repairs = _qform(raw)
    sform = raw.get_sform() if int(raw["sform_code"]) > 0 else None
    if sform is not None and (fault := _sform_fault(sform)) and (qform is not None or "invertible" in fault):
        notes.append(f"the sform {fault} and was ignored")
        sform = None
    if sform is not None:
        chosen = _from_ras(sform, unit, path)
        if faults:
            notes.append(f"the sform was taken; the qform cannot be used: {faults[0]}")
        elif qform is not None:
            notes += repairs + _disagreement(chosen, qform, unit, shape, path)
        return chosen, notes
    if faults:
        raise GeometryError(f"{path} has a qform that cannot be used: {faults[0]}.", "Correct the header.")
    if qform is not None:
        return _from_ras(qform, unit, path), notes + repairs
    notes.append("neither sform nor qform is set; voxel axes are taken as L, A, S with the middle voxel at 0")
    return _from_ras(raw.get_base_affine(), unit, path), notes


def _sform_fault(sform: NDArray[np.float64]) -> str | None:
    if not (np.abs(sform) < MOST_MM * 1e3).all():
        return "holds what is no length"
    return "is not invertible" if abs(np.linalg.det(sform[:3, :3])) < 1e-12 else None


def _qform(raw: Any) -> tuple[NDArray[np.float64] | None, list[str], list[str]]:
    """Return the affine of the qform (none where it is not set or of no use), its faults, and its repairs.

    As the NIfTI-1 standard and its C library have it, where nibabel raises: a qfac of 0 means 1, and a quaternion that
    rounding made longer than 1 is one of half a turn.
    """
    if int(raw["qform_code"]) <= 0:
        return None, [], []
    repairs = []
    vector = np.array([raw[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    shift = np.array([raw[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
    sizes, qfac = np.array(raw["pixdim"][1:4], dtype=np.float64), float(raw["pixdim"][0])
    length = float(vector @ vector)
    if not (np.isfinite(vector).all() and np.isfinite(shift).all() and np.isfinite(sizes).all()):
        return None, ["it holds what is no number"], []
    if not (sizes > 0).all():
        return None, [f"its voxel sizes are {', '.join(f'{size:g}' for size in sizes)} mm"], []
    if length > 1 + ROUNDED_QUATERNION:
        return None, [f"its quaternion has a length of {length**0.5:.4f}, and none is longer than 1"], []
    if length > 1 + FLOAT_ROUNDING:
        repairs.append(f"the qform's quaternion had a length of {length**0.5:.6f} and was taken as of length 1")
    if qfac not in (-1.0, 1.0):
        repairs.append(f"the qform's qfac is {qfac:g} and was taken as {-1 if qfac < 0 else 1}")
    vector = vector / max(1.0, length**0.5)
    rotation = quat2mat([max(0.0, 1.0 - float(vector @ vector)) ** 0.5, *vector])
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes * (1, 1, -1 if qfac < 0 else 1)
    affine[:3, 3] = shift
    return affine, [], repairs


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
