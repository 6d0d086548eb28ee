"""Small scans written for tests: values, geometry and damage that are known because they were put there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"


def numbers(shape_xyz: tuple[int, int, int] = (7, 6, 5), start: int = -100) -> NDArray[np.int16]:
    """Every voxel another number, in the order x, y, z."""
    return (np.arange(np.prod(shape_xyz)).reshape(shape_xyz) + start).astype(np.int16)


def write_nifti(
    path: Path,
    array_xyz: NDArray[np.generic] | None = None,
    affine: NDArray[np.float64] | None = None,
    codes: tuple[int, int] = (1, 1),
    qform: NDArray[np.float64] | None = None,
) -> Path:
    """A NIfTI file with sform ``affine`` and qform ``qform`` (the same if none) under the given codes."""
    array = numbers() if array_xyz is None else array_xyz
    affine = np.diag([-2.0, -2.0, 3.0, 1.0]) if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(affine if qform is None else qform, codes[1], strip_shears=True)
    header.set_sform(affine, codes[0])
    image = nib.Nifti1Image(array, None, header)  # with an affine, nibabel would rewrite both forms
    nib.save(image, path)
    return path


def write_dicom(
    folder: Path,
    depths_mm: Sequence[float] = (0, 3, 6, 9),
    *,
    tilt_mm: float = 0.0,
    patient: str = "P1",
    series: str | None = None,
    modality: str = "CT",
    slope: float = 1.0,
    place: bool = True,
    name: str = "slice",
    shape: tuple[int, int] = (5, 6),
    edit: Callable[[FileDataset, int], None] = lambda data, k: None,
) -> list[Path]:
    """A series of axial slices without file endings; slice k holds the numbers 100 * k and up.

    ``tilt_mm`` moves each slice by so much along y for each mm of depth; ``edit`` changes the k-th before it is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study, paths = series or generate_uid(), generate_uid(), []
    for k, depth in enumerate(depths_mm):
        path = folder / f"{name}{len(depths_mm) - k:03d}"  # names run against the depth
        data = _dataset(path, CTImageStorage, modality, patient, study, series)
        data.Rows, data.Columns = shape
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 1, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.RescaleSlope, data.RescaleIntercept = slope, -10
        if place:
            data.PixelSpacing = [2.0, 1.5]
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            data.ImagePositionPatient = [10.0, 20.0 + tilt_mm * depth, float(depth)]
        data.PixelData = (np.arange(shape[0] * shape[1]) + 100 * k).astype("<i2").tobytes()
        edit(data, k)
        data.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_enhanced(
    path: Path,
    depths_mm: Sequence[float] = (0, 3, 6, 9),
    *,
    slopes: Sequence[float] = (),
    shape: tuple[int, int] = (5, 6),
    series: str | None = None,
    edit: Callable[[FileDataset], None] = lambda data: None,
) -> Path:
    """An enhanced CT of one file; frame k holds the numbers 100 * k and up, and lies at ``depths_mm[k]``.

    Spacing, orientation and intercept (-10) are shared by all frames; the slope is shared too unless ``slopes`` has one
    for each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _dataset(path, EnhancedCTImageStorage, "CT", "P1", generate_uid(), series or generate_uid())
    data.Rows, data.Columns = shape
    data.NumberOfFrames = len(depths_mm)
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 1, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    size = _group("PixelMeasuresSequence", PixelSpacing=[2.0, 1.5], SliceThickness=3)
    axes = _group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared, frames = _merged(size, axes), []
    for k, depth in enumerate(depths_mm):
        frame = _group("PlanePositionSequence", ImagePositionPatient=[10.0, 20.0, float(depth)])
        if slopes:
            frame = _merged(frame, _scale(slopes[k]))
        frames.append(frame)
    data.SharedFunctionalGroupsSequence = [shared if slopes else _merged(shared, _scale(1))]
    data.PerFrameFunctionalGroupsSequence = frames
    stored = np.arange(shape[0] * shape[1]) + 100 * np.arange(len(depths_mm))[:, None]
    data.PixelData = stored.astype("<i2").tobytes()
    edit(data)
    data.save_as(path, enforce_file_format=True)
    return path


def write_rtstruct(path: Path, patient: str = "P1") -> Path:
    """A DICOM object that holds no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _dataset(path, RTSTRUCT_STORAGE, "RTSTRUCT", patient, generate_uid(), generate_uid())
    data.save_as(path, enforce_file_format=True)
    return path


def _group(name: str, **fields: object) -> Dataset:
    """A data set with one functional group."""
    group, item = Dataset(), Dataset()
    for field, value in fields.items():
        setattr(item, field, value)
    setattr(group, name, [item])
    return group


def _scale(slope: float) -> Dataset:
    return _group("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=-10, RescaleType="HU")


def _merged(*groups: Dataset) -> Dataset:
    merged = Dataset()
    for group in groups:
        merged.update(group)
    return merged


def _dataset(path: Path, kind: str, modality: str, patient: str, study: str, series: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(kind)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = modality, patient, study, series
    return data
