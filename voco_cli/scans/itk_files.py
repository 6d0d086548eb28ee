"""NRRD and MetaImage through SimpleITK, with the checks that it leaves out of a header read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.errors import DataError
from voco_cli.scans.geometry import place
from voco_cli.scans.header import Header, require_file, volume_shape

FORMATS = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "metaimage", ".mhd": "metaimage"}
HEADER_BYTES = 1 << 16


def read_itk_header(path: Path) -> Header:
    """Header of an NRRD or MetaImage file; the length of the voxels on disk is checked too.

    Raises:
        DataError: missing, empty, not such an image, several numbers a voxel, or shorter than its header says.
        GeometryError: not 3-D, or sheared.
    """
    import SimpleITK as sitk  # late: most people have NIfTI

    require_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read as an image: {_reason(error)}.") from error
    header = _to_header(reader, path)
    voxels = int(np.prod(header.shape_xyz, dtype=object))
    _check_length(path, voxels * np.dtype(header.dtype).itemsize)
    return header


def read_itk(path: Path) -> tuple[Header, NDArray[Any]]:
    """Header and voxels (array_zyx, stored dtype).

    Raises:
        DataError, GeometryError: as `read_itk_header`.
    """
    import SimpleITK as sitk  # late: most people have NIfTI

    header = read_itk_header(path)
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise DataError(f"{path} is damaged or truncated: {_reason(error)}.", "Copy or download it again.") from error
    return header, array.reshape(header.shape_xyz[::-1])


def _to_header(reader: Any, path: Path) -> Header:
    import SimpleITK as sitk  # late: most people have NIfTI

    size = reader.GetSize()
    shape = volume_shape(tuple(size), path)
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path} holds {reader.GetNumberOfComponents()} numbers a voxel, and a scan holds one.")
    dimensions = len(size)
    cosines = np.array(reader.GetDirection(), dtype=np.float64).reshape(dimensions, dimensions)[:3, :3]
    axes = cosines * np.array(reader.GetSpacing()[:3])
    placement = place(axes, np.array(reader.GetOrigin()[:3], dtype=np.float64), path)
    dropped = ("a trailing axis of length 1 was dropped",) if dimensions > 3 else ()
    return Header(
        path=path,
        shape_xyz=shape,
        dtype=np.dtype(sitk.GetArrayViewFromImage(sitk.Image(1, 1, reader.GetPixelID())).dtype).name,
        placement=placement,
        format=FORMATS[path.suffix.lower()],
        notes=(*placement.notes, *dropped),
    )


def _check_length(path: Path, voxel_bytes: int) -> None:
    """Compare the bytes on disk with what the text header announces, without decompressing."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    fields, header_bytes = _fields(start)
    name = fields.get("elementdatafile") or fields.get("datafile") or "LOCAL"
    data = path if name.upper() == "LOCAL" else path.parent / name
    if name.split()[0].upper() == "LIST" or "%" in name:
        return
    if not data.is_file():
        raise DataError(f"{path} names {name} as its data file, which is missing.", "Copy both files.")
    found = data.stat().st_size - (header_bytes if data == path else 0)
    expected = _stored_bytes(fields, data, voxel_bytes)
    if expected is not None and found < expected:
        raise DataError(
            f"{path} is truncated: its header announces {expected} bytes of voxels and {found} are there.",
            "Copy or download it again.",
        )


def _stored_bytes(fields: dict[str, str], data: Path, voxel_bytes: int) -> int | None:
    """Bytes that the voxels take on disk; none where only decoding would tell."""
    if fields.get("compresseddata", "").lower() == "true":
        size = fields.get("compresseddatasize", "")
        return int(size) if size.isdigit() else None
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("gzip", "gz"):
        with data.open("rb") as file:
            file.seek(max(data.stat().st_size - 4, 0))
            length = struct.unpack("<I", file.read(4).rjust(4, b"\0"))[0]
        # Several gzip members would not hold this either, but none of the known writers makes them.
        return None if length == voxel_bytes % (1 << 32) else voxel_bytes
    return voxel_bytes if encoding == "raw" and fields.get("binarydata", "true").lower() == "true" else None


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """Lower-case keys without spaces to values, and where the text ends (a blank line, or MetaImage's last key)."""
    fields: dict[str, str] = {}
    position = 0
    while (end := start.find(b"\n", position)) >= 0:
        line = start[position:end].decode("latin-1").strip()
        position = end + 1
        if not line:
            break
        separator = "=" if start.startswith((b"ObjectType", b"NDims", b"Comment")) else ":"
        key, _, value = line.partition(separator)
        fields[key.replace(" ", "").lower()] = value.strip()
        if "elementdatafile" in fields:
            break
    return fields, position


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"
