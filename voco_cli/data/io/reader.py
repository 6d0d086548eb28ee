"""One reader for every format: NIfTI, NRRD, MetaImage, DICOM series; arrays and slices without geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voco_cli.atomic_files import whole_file
from voco_cli.data.io.arrays import ARRAY_SUFFIX, array_layout, read_pictures, read_pictures_header, slice_pictures
from voco_cli.data.io.dicom import DicomSeries, group_slices, read_series, series_header
from voco_cli.data.io.dicom_slices import Slice, looks_like_dicom, read_slices
from voco_cli.data.io.image import Header, Scan, ras_affine, require_file
from voco_cli.data.io.metaimage import metaimage_files, metaimage_layout
from voco_cli.data.io.nifti import is_pair, nifti_files, nifti_layout
from voco_cli.data.io.nrrd import nrrd_files, nrrd_layout
from voco_cli.data.io.scratch import header_copy, local_copy
from voco_cli.data.io.voxel_bytes import VoxelBytes, read_voxels
from voco_cli.errors import DataError, ResourceError, UsageError, VocoError
from voco_cli.object_stores import RemotePath, is_remote

NIFTI_SUFFIXES = (".nii", ".nii.gz")
FORMATS = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "metaimage", ".mhd": "metaimage"}
LAYOUTS: dict[str, Callable[[Path], tuple[Header, VoxelBytes]]] = {
    "nifti": nifti_layout,
    "nrrd": nrrd_layout,
    "metaimage": metaimage_layout,
    "numpy": array_layout,
}
FILES = {"nifti": nifti_files, "nrrd": nrrd_files, "metaimage": metaimage_files}

ONE_FILE = (".nii", ".nii.gz", ".nrrd", ".mha", ".npy")
"""Endings of scans that lie in one file, as they can be read from a store."""
READABLE = "NIfTI, NRRD, MetaImage and DICOM are; so are .npy arrays, and folders of PNG slices."


def file_format(path: Path) -> str | None:
    """Return ``nifti``, ``nrrd`` or ``metaimage`` by the name, ``dicom`` by the content, none for anything else.

    A pair of files, ``.hdr`` and ``.img``, is ``nifti``; ANALYZE's too, so that its refusal says what it is. In an
    object store the name alone counts.

    Arrays and pictures, which need not be scans at all, are read where they are named and are no format here.
    """
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if path.suffix.lower() in FORMATS:
        return FORMATS[path.suffix.lower()]
    if is_remote(path):
        return None
    if looks_like_dicom(path):  # also where its name ends in .img
        return "dicom"
    return "nifti" if is_pair(path) else None


def image_files(path: Path) -> tuple[Path, ...]:
    """Return the file with the header and the file with the voxels of an image; the same twice where it is one.

    Raises:
        DataError: not such an image, or a file is missing.
    """
    kind = file_format(path)
    return FILES[kind](path) if kind in FILES and not is_remote(path) else (path, path)


def read_scan(path: Path, files: Sequence[Path] = ()) -> Scan:
    """Read a scan with its voxels and its place in the patient.

    Args:
        path: a NIfTI, NRRD or MetaImage file, or either of a NIfTI pair ``.hdr`` and ``.img``; a folder that holds one
            DICOM series (sub-folders count); one file of a series, whose other files lie in the same folder; an
            enhanced (multi-frame) DICOM file; a ``.npy`` array of slice, row, column; or a folder of PNG or JPEG slices
            without DICOM files. In an object store: one file of a format but DICOM.
        files: the files of a DICOM series that no folder tells apart (as a data.json entry lists them).
    Returns:
        The scan; voxels in the stored number format, rescaled where the header says so (DICOM: slice by slice).
    Raises:
        DataError: missing, empty, truncated, damaged, or not an image.
        GeometryError: not 3-D, sheared, tilted, unevenly spaced, or without a place.
    """
    if isinstance(path, RemotePath):
        _require_one_file(path)
        with local_copy(path) as local:
            return replace(read_scan(local), path=path)
    source = _source(path, files)
    if isinstance(source, DicomSeries):
        header, array = read_series(source, path)
    elif isinstance(source, str):
        header, voxels = LAYOUTS[source](path)
        array = read_voxels(voxels)
    else:
        header, array = read_pictures(path, source)
    return Scan(
        array_zyx=array,
        spacing_xyz_mm=header.placement.spacing_xyz_mm,
        origin_xyz_mm=header.placement.origin_xyz_mm,
        direction=header.placement.direction,
        path=header.path,
        notes=header.notes,
    )


def read_header(path: Path, files: Sequence[Path] = ()) -> Header:
    """Read the same without decoding voxels; lengths are checked, checksums are not.

    Raises:
        DataError, GeometryError: as `read_scan`.
    """
    if isinstance(path, RemotePath):
        return _remote_header(path)
    source = _source(path, files)
    if isinstance(source, DicomSeries):
        return series_header(source, path)[0]
    return LAYOUTS[source](path)[0] if isinstance(source, str) else read_pictures_header(path, source)


def _remote_header(path: RemotePath) -> Header:
    """Read the header off the ends of an object; the whole of it comes where they do not suffice."""
    _require_one_file(path)
    with suppress(VocoError, FileNotFoundError), header_copy(path) as local:
        return replace(read_header(local), path=path)
    with local_copy(path) as local:
        return replace(read_header(local), path=path)


def _require_one_file(path: RemotePath) -> None:
    if not path.name.lower().endswith(ONE_FILE):
        raise DataError(f"{path} is no scan that is read from a store.", f"{', '.join(ONE_FILE)} are.")


def _source(path: Path, files: Sequence[Path]) -> DicomSeries | list[Path] | str:
    """Return what a scan is made of: a DICOM series, the pictures of a folder, or a file of a format of `LAYOUTS`."""
    if not files and (pictures := _pictures_of(path)):
        return pictures
    if files or path.is_dir():
        return _one_series(path, files)
    if path.suffix.lower() == ARRAY_SUFFIX:
        return "numpy"
    require_file(path)
    kind = file_format(path)
    if kind is None:
        raise DataError(f"{path} is not an image that can be read.", READABLE)
    return _series_of(path) if kind == "dicom" else kind


def series_files(path: Path) -> tuple[Path, ...]:
    """Return the files of the DICOM series that a file belongs to, in its folder.

    Raises:
        DataError: not DICOM, or damaged.
    """
    return _series_of(path).files


def _pictures_of(path: Path) -> list[Path]:
    """List the slices of a folder of pictures; none of anything else, nor where they lie beside DICOM files."""
    pictures = slice_pictures(path) if path.is_dir() else []
    return [] if pictures and _dicom_among(path.rglob("*")) else pictures


def _dicom_among(paths: Iterable[Path]) -> list[Path]:
    return [file for file in sorted(paths) if file.is_file() and file.stat().st_size and looks_like_dicom(file)]


def _one_series(path: Path, files: Sequence[Path]) -> DicomSeries:
    """Return the only image series among ``files``, or else in the folder ``path`` and below."""
    candidates = files or _dicom_among(path.rglob("*"))
    for file in files:
        require_file(file)
    found = [one for one in group_slices(_slices_of(candidates)) if one.first.is_image]
    volumes = [one for one in found if len(one.slices) > 1] or found
    if not volumes:
        raise DataError(
            f"{path} holds no DICOM images.", "Give the folder of a series or of PNG slices, or an image file."
        )
    if len(volumes) > 1:
        names = ", ".join(f"{one.first.modality} of {len(one.slices)} ({one.first.path.name})" for one in volumes[:6])
        raise DataError(
            f"{path} holds {len(volumes)} DICOM series: {names}.", "Name one file of the series that is meant."
        )
    return volumes[0]


def _series_of(path: Path) -> DicomSeries:
    """Return the series that a file belongs to, from the files beside it."""
    own = read_slices(path)
    beside = _dicom_among(file for file in path.parent.iterdir() if file != path)
    same = [one for one in _slices_of(beside) if one.series_uid == own[0].series_uid]
    return next(one for one in group_slices([*own, *same]) if path in one.files)


def _slices_of(files: Iterable[Path]) -> Iterator[Slice]:
    for file in files:
        yield from read_slices(file)


SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
SCANNER_CODE = 1  # NIfTI: coordinates of the scanner
MM_UNIT = "mm"


def write_scan(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    """Write voxels on the grid of ``like``; the file is there whole or not at all.

    Args:
        array_zyx: any number format that the file format holds, same shape as ``like``.
        like: gives spacing, origin and direction.
        path: ends in ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``; its folder is made where missing.
    Raises:
        UsageError: another shape, or a name with another ending.
        ResourceError: the disk is full or does not allow it.
    """
    if array_zyx.shape != like.array_zyx.shape:
        raise UsageError(
            f"{path} would get shape {array_zyx.shape} (z, y, x), and its scan has {like.array_zyx.shape}."
        )
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise UsageError(f"{path} has no ending that can be written.", f"Use one of {', '.join(SUFFIXES)}.")
    array = array_zyx.astype(np.uint8) if array_zyx.dtype == np.bool_ else array_zyx
    try:
        with whole_file(path) as beside:
            _write_nifti(array, like, beside) if suffix.startswith(".nii") else _write_itk(array, like, beside)
    except RuntimeError as error:  # how SimpleITK says that it could not write
        raise ResourceError(f"{path} cannot be written: {error}.") from error


def _write_nifti(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    affine = ras_affine(like)
    if array_zyx.dtype == np.float16:
        array_zyx = array_zyx.astype(np.float32)
    kind = nib.Nifti2Image if max(array_zyx.shape) > np.iinfo(np.int16).max else nib.Nifti1Image
    image = kind(array_zyx.T, affine, dtype=array_zyx.dtype)
    image.set_sform(affine, SCANNER_CODE)
    image.set_qform(affine, SCANNER_CODE)
    image.header.set_xyzt_units(MM_UNIT)
    nib.save(image, path)


def _write_itk(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    import SimpleITK as sitk  # late: most people have NIfTI

    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(like.spacing_xyz_mm)
    image.SetOrigin(like.origin_xyz_mm)
    image.SetDirection(like.direction.flatten().tolist())
    sitk.WriteImage(image, str(path), True)
