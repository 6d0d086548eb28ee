"""Volumes without any geometry: ``.npy`` arrays, and folders of PNG or JPEG slices. CC-CCII comes as either.

Both have their axes as slice, row, column. Where the patient lies in them is not known; they are taken as an axial scan
in the usual order (columns to the left, rows to the back, slices to the head), 1 mm apart, and say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.geometry import Placement
from voco_cli.data.io.image import Header, require_file, volume_shape
from voco_cli.data.io.voxel_bytes import VoxelBytes, check_length
from voco_cli.errors import DataError, GeometryError

ARRAY_SUFFIX = ".npy"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NO_PLACE = "no spacing or place is known; axes are taken as slice, row, column of an axial scan, 1 mm apart"
JPEG_END, LAST_BYTES = b"\xff\xd9", 4096
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def slice_pictures(folder: Path) -> list[Path]:
    """List the PNG and JPEG files of a folder by the numbers in their names: ``2.png`` before ``10.png``."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
    return sorted((file for file in found if file.is_file() and not file.name.startswith(".")), key=_natural)


def read_pictures_header(folder: Path, pictures: Sequence[Path]) -> Header:
    """Return the header of a folder of slices; the header of each is read.

    Raises:
        DataError: a picture that cannot be read, or one in colour.
        GeometryError: pictures of several sizes, or a single one.
    """
    sizes: dict[tuple[int, int], Path] = {}
    kinds: dict[str, Path] = {}
    for picture in pictures:
        size, kind = _picture_layout(picture)
        sizes.setdefault(size, picture)
        kinds.setdefault(kind, picture)
    if len(sizes) > 1:
        listed = ", ".join(f"{x}x{y} ({path.name})" for (x, y), path in list(sizes.items())[:3])
        raise GeometryError(f"{folder} holds slices of {len(sizes)} sizes: {listed}.", "Keep one scan in a folder.")
    if len(kinds) > 1:
        listed = ", ".join(f"{kind} ({path.name})" for kind, path in kinds.items())
        raise DataError(f"{folder} holds slices of different number formats: {listed}.", "Convert them to one.")
    (x, y), (kind,) = next(iter(sizes)), kinds
    return _header(folder, volume_shape((x, y, len(pictures)), folder), np.dtype(kind), "pictures")


def read_pictures(folder: Path, pictures: Sequence[Path]) -> tuple[Header, NDArray[Any]]:
    """Return the header and the voxels (array_zyx) of a folder of slices.

    Raises:
        DataError, GeometryError: as `read_pictures_header`.
    """
    header = read_pictures_header(folder, pictures)
    return header, np.stack([_read_picture(picture) for picture in pictures])


def array_layout(path: Path) -> tuple[Header, VoxelBytes]:
    """Return the header of a ``.npy`` file, and where its voxels lie; their length is checked.

    Half precision becomes float32, truth values become 0 and 1.

    Raises:
        DataError: missing, empty, not such a file, Python objects or complex numbers in it, or of another length.
        GeometryError: not 3-D.
    """
    require_file(path)
    with path.open("rb") as file:
        try:
            read = _HEADERS[np.lib.format.read_magic(file)]
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is no .npy array, whatever its name says.", "Write it with numpy.save.") from error
        try:
            shape, columns_first, dtype = read(file)
        except Exception as error:  # numpy evaluates a line of Python here; whatever comes of that is damage
            raise DataError(f"{path} has a damaged .npy header.", "Copy it again, or write it anew.") from error
        begin = file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path} holds pickled Python objects, and reading them would run their code.",
            "Save the numbers alone: numpy.save(path, array, allow_pickle=False).",
        )
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise DataError(f"{path} holds {dtype} voxels, and a scan holds one number in each.")
    if min(shape, default=0) < 1:
        raise DataError(f"{path} holds an array without voxels: its shape is {shape}.")
    x, y, z = volume_shape(shape[::-1], path)
    decoded = _decoded(dtype)
    voxels = VoxelBytes(path, path, (z, y, x), dtype, begin=begin, decoded=decoded, columns_first=columns_first)
    header = _header(path, (x, y, z), decoded, "numpy")
    return replace(header, notes=(*header.notes, *check_length(voxels))), voxels


def _decoded(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def _header(path: Path, shape_xyz: tuple[int, int, int], dtype: np.dtype[Any], kind: str) -> Header:
    placement = Placement((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    return Header(path, shape_xyz, dtype.name, placement, kind, (NO_PLACE,))


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a key to sort by: numbers by value, words by letters; the name where these are equal (``1``, ``01``)."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def _picture_layout(picture: Path) -> tuple[tuple[int, int], str]:
    """Return columns and rows of a grey picture, and its number format."""
    import SimpleITK as sitk  # late: most people have NIfTI

    require_file(picture)
    if picture.suffix.lower() != ".png" and JPEG_END not in _last_bytes(picture):  # libjpeg fills up what is missing
        raise DataError(f"{picture} is truncated: the mark of its end is missing.", "Copy or download it again.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(picture))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{picture} cannot be read as a picture.", "Copy or download it again.") from error
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{picture} is in colour, and the slices of a scan are grey.", "Convert the slices to grey.")
    x, y = reader.GetSize()[:2]
    kind = np.dtype(sitk.GetArrayViewFromImage(sitk.Image(1, 1, reader.GetPixelID())).dtype).name
    return (x, y), kind


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        return file.read()


def _read_picture(picture: Path) -> NDArray[Any]:
    import SimpleITK as sitk  # late: most people have NIfTI

    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(picture)))
    except RuntimeError as error:
        raise DataError(f"{picture} is damaged or truncated.", "Copy or download it again.") from error
    return np.asarray(array.reshape(array.shape[-2:]))
