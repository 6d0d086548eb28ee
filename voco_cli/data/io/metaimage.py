"""MetaImage (``.mha``; ``.mhd`` with its data file), read by this package itself.

ITK returns other voxels where a compressed stream is damaged, zeros where it is short, and ends the whole process on
some damaged headers. So it is not asked; a test compares what both read. World axes are L, P, S, as in ITK.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.data.io.geometry import Placement, place, unit_notes
from voco_cli.data.io.image import Header, require_file, volume_shape
from voco_cli.data.io.text_header import (
    bad_value,
    begin_of_last,
    beside,
    header_lines,
    header_of,
    missing_notes,
    numbers,
    required,
    whole_number,
    whole_numbers,
)
from voco_cli.data.io.voxel_bytes import Encoding, VoxelBytes, is_gzip
from voco_cli.errors import DataError

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # of the machines of 1999; ITK reads four bytes too
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
ALIASES = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}
USED = {
    *("objecttype", "ndims", "dimsize", "elementtype", "elementnumberofchannels", "elementspacing", "elementsize"),
    *("transformmatrix", "offset", "binarydata", "binarydatabyteordermsb", "compresseddata", "compresseddatasize"),
    *("headersize", "distanceunits", "elementtointensityfunctionslope", "elementtointensityfunctionoffset"),
    "elementdatafile",
}
MM_PER_UNIT = {"um": 0.001, "mm": 1.0, "cm": 10.0}


def metaimage_layout(path: Path) -> tuple[Header, VoxelBytes]:
    """Return the header of a MetaImage, and where its voxels lie; their length on disk is checked.

    Raises:
        DataError: missing, empty, not such an image, several numbers a voxel, or of another length than it says.
        GeometryError: not 3-D, or sheared.
    """
    require_file(path)
    fields, end = _read_fields(path)
    sizes = whole_numbers(required(fields, "dimsize", path), "DimSize", path)
    if whole_number(required(fields, "ndims", path), "NDims", path) != len(sizes) or min(sizes, default=0) < 1:
        raise bad_value("DimSize", fields["dimsize"], path)
    channels = whole_number(fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels", path)
    kind = required(fields, "elementtype", path)
    if channels != 1 or kind.endswith("_ARRAY"):
        raise DataError(
            f"{path} holds {channels if channels != 1 else 'several'} numbers a voxel, and a scan holds one."
        )
    if kind not in TYPES:
        raise bad_value("ElementType", kind, path)
    shape = volume_shape(tuple(sizes), path)
    order = ">" if _is_true(fields, "binarydatabyteordermsb", path) else "<"
    voxels = _voxels(fields, end, path, shape, np.dtype(order + TYPES[kind]))
    placement, notes = _placement(fields, len(sizes), path)
    return header_of(path, "metaimage", fields.get("comment", ""), voxels, placement, notes), voxels


def metaimage_files(path: Path) -> tuple[Path, Path]:
    """Return the image, and the file that holds the voxels: itself, or the one beside it that it names.

    Raises:
        DataError: it names none that is there.
    """
    name = _read_fields(path)[0]["elementdatafile"]
    return path, path if name.upper() == "LOCAL" else beside(path, name)


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Read keys (in small letters, by their present names) with their values; return them and where the text ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for number, line in enumerate(header_lines(file, path)):
            key, separator, value = line.partition("=" if "=" in line else ":")
            name = "".join(key.split()).lower()
            if number == 0 and (not separator or not name.isidentifier()):
                raise DataError(f"{path} is not a MetaImage: its header is not one.", "Check what wrote it.")
            name, value = ALIASES.get(name, name), value.strip()
            if name in USED and fields.get(name, value) != value:
                raise DataError(f"{path} has a damaged header: it states {key.strip()} twice, and differently.")
            fields[name] = value
            if name == "elementdatafile":
                break
        end = file.tell()
        file.seek(max(0, end - 1))
        whole = file.read(1) == b"\n"
    if fields.get("objecttype", "Image").lower() != "image":
        raise DataError(f"{path} is a MetaImage file of another object than an image.")
    name = required(fields, "elementdatafile", path)
    if name.upper() == "LOCAL" and not whole:
        raise DataError(f"{path} is truncated: its header has no end, and no voxels follow.", "Copy it again.")
    return fields, end


def _voxels(
    fields: dict[str, str], end: int, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> VoxelBytes:
    local = fields["elementdatafile"].upper() == "LOCAL"
    data, begin = (path, end) if local else (beside(path, fields["elementdatafile"]), 0)
    shape_zyx = (shape[2], shape[1], shape[0])
    if not _is_true(fields, "binarydata", path, default="True"):
        raise DataError(f"{path} has its voxels as text, which is not read.", "Save it again as binary data.")
    skipped = whole_number(fields.get("headersize", "0"), "HeaderSize", path)
    if not _is_true(fields, "compresseddata", path):
        voxels = VoxelBytes(path, data, shape_zyx, dtype)
        if skipped == -1:  # the voxels are the last bytes of the file, whatever comes before
            begin = begin_of_last(voxels, begin)
        elif skipped < 0 or (skipped and local):
            raise bad_value("HeaderSize", fields["headersize"], path)
        return VoxelBytes(path, data, shape_zyx, dtype, begin=begin + max(0, skipped))
    if skipped:
        raise bad_value("HeaderSize", fields["headersize"], path)
    length = whole_number(fields.get("compresseddatasize", "0"), "CompressedDataSize", path)
    if length < 0:
        raise bad_value("CompressedDataSize", fields["compresseddatasize"], path)
    encoding: Encoding = "gzip" if is_gzip(data, begin) else "zlib"
    return VoxelBytes(path, data, shape_zyx, dtype, encoding, begin, length or None)


def _placement(fields: dict[str, str], dimensions: int, path: Path) -> tuple[Placement, list[str]]:
    missing = []
    if "elementspacing" not in fields and "elementsize" not in fields:
        missing.append("spacing (1 mm)")
    spacing_text = fields.get("elementspacing", fields.get("elementsize", "1 " * dimensions))
    spacing_mm = numbers(spacing_text, "ElementSpacing", path, dimensions)[:3]
    if "transformmatrix" not in fields:
        missing.append("direction (L, P, S)")
        cosines = np.eye(3)
    else:
        matrix = numbers(fields["transformmatrix"], "TransformMatrix", path, dimensions**2)
        cosines = matrix.reshape(dimensions, dimensions)[:3, :3].T  # a row is the direction of an axis
    if "offset" not in fields:
        missing.append("position (0)")
    origin_mm = numbers(fields.get("offset", "0 " * dimensions), "Offset", path, dimensions)[:3]
    if "binarydatabyteordermsb" not in fields and not required(fields, "elementtype", path).endswith("CHAR"):
        missing.append("order of bytes (the lowest first)")
    unit = MM_PER_UNIT.get(fields.get("distanceunits", "mm").lower(), 1.0)
    notes = missing_notes(missing) + unit_notes(unit)
    if dimensions > 3:
        notes.append("a trailing axis of length 1 was dropped")
    slope, intercept = (
        numbers(fields.get(f"elementtointensityfunction{name}", default), name, path, 1)[0]
        for name, default in (("slope", "1"), ("offset", "0"))
    )
    if (slope, intercept) != (1.0, 0.0):
        notes.append("ElementToIntensityFunction was not applied, as ITK does not apply it")
    return place(cosines * spacing_mm * unit, origin_mm * unit, path), notes


def _is_true(fields: dict[str, str], key: str, path: Path, default: str = "False") -> bool:
    value = fields.get(key, default)
    if value.lower() not in ("true", "false", "1", "0"):
        raise bad_value(key, value, path)
    return value.lower() in ("true", "1")
