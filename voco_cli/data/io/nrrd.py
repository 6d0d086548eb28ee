"""NRRD (``.nrrd``; ``.nhdr`` with its data file), read by this package itself.

ITK returns other voxels where a gzip stream is damaged, refuses a byte behind it, and ends the whole process on some
damaged headers; pynrrd does not bound what it decompresses, compares no lengths, and leaves the space to its caller.
So neither is asked; a test compares what ITK reads.
Source: the definition of the format, teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from voco_cli.data.io.voxel_bytes import Encoding, VoxelBytes
from voco_cli.errors import DataError, GeometryError

TYPES = {
    name: code
    for code, names in {
        "i1": ("signed char", "int8", "int8_t"),
        "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
        "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
        "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
        "i4": ("int", "signed int", "int32", "int32_t"),
        "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
        "i8": (
            *("longlong", "long long", "long long int", "signed long long", "signed long long int"),
            "int64",
            "int64_t",
        ),
        "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
        "f4": ("float",),
        "f8": ("double",),
    }.items()
    for name in names
}
ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
KEYS = {
    *("content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes", "spacings"),
    *("thicknesses", "axismins", "axismaxs", "spacedirections", "centers", "centerings", "kinds", "labels", "units"),
    *("min", "max", "oldmin", "oldmax", "endian", "encoding", "lineskip", "byteskip", "sampleunits", "spaceunits"),
    *("spaceorigin", "measurementframe", "datafile"),
}
TO_LPS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
NO_ANATOMY = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
SCALAR_KINDS = ("domain", "space", "time", "none", "???")
MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "millimeter": 1.0, "millimeters": 1.0}


def nrrd_layout(path: Path) -> tuple[Header, VoxelBytes]:
    """Return the header of an NRRD file, and where its voxels lie; their length on disk is checked.

    Raises:
        DataError: missing, empty, not such an image, several numbers a voxel, or of another length than it says.
        GeometryError: not 3-D, or sheared.
    """
    require_file(path)
    fields, end = _read_fields(path)
    sizes = whole_numbers(required(fields, "sizes", path), "sizes", path)
    if whole_number(required(fields, "dimension", path), "dimension", path) != len(sizes) or min(sizes) < 1:
        raise bad_value("sizes", fields["sizes"], path)
    kind = required(fields, "type", path).lower()
    if kind not in TYPES:
        raise bad_value("type", kind, path)
    directions = _directions(fields, len(sizes), path)
    axes = _spatial_axes(fields, sizes, directions, path)
    shape = volume_shape(tuple(sizes[axis] for axis in axes), path)
    placement, notes = _placement(fields, directions, axes[:3], len(sizes), path)
    if len(sizes) > 3:
        notes.append("an axis of length 1 was dropped")
    voxels = _voxels(fields, end, path, shape, TYPES[kind])
    return header_of(path, "nrrd", fields.get("content", ""), voxels, placement, notes), voxels


def nrrd_files(path: Path) -> tuple[Path, Path]:
    """Return the image, and the file that holds the voxels: itself, or the one beside it that it names.

    Raises:
        DataError: it names none that is there.
    """
    fields, _ = _read_fields(path)
    return path, beside(path, fields["datafile"]) if "datafile" in fields else path


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Read fields (in small letters without spaces) with their values; return them and the byte where the text ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not re.fullmatch(rb"NRRD000[1-6]\r?\n", file.readline(16)):
            raise DataError(f"{path} is not a NRRD image: its header is not one.", "Check what wrote it.")
        ended = False
        for line in header_lines(file, path):
            ended = not line
            if ended:
                break
            key, separator, value = line.partition(":")
            if line.startswith("#") or (separator and value.startswith("=")):
                continue  # a comment, or a key of whoever wrote it
            name = "".join(key.split()).lower()
            name = "centerings" if name == "centers" else name
            if not separator or name not in KEYS or name in fields:
                raise bad_value("a line", line, path)
            fields[name] = value.strip()
        end = file.tell()
    if not ended and "datafile" not in fields:
        raise DataError(f"{path} is truncated: its header has no end, and no voxels follow.", "Copy it again.")
    return fields, end


def _voxels(fields: dict[str, str], end: int, path: Path, shape: tuple[int, int, int], code: str) -> VoxelBytes:
    named = required(fields, "encoding", path).lower()
    if named not in ENCODINGS:
        if named in ("txt", "text", "ascii", "hex"):
            raise DataError(f"{path} has its voxels as text, which is not read.", "Save it again with encoding gzip.")
        raise bad_value("encoding", named, path)
    order = "little"
    if not code.endswith("1"):
        order = required(fields, "endian", path).lower()
        if order not in ("little", "big"):
            raise bad_value("endian", order, path)
    data, begin = (beside(path, fields["datafile"]), 0) if "datafile" in fields else (path, end)
    lines = whole_number(fields.get("lineskip", "0"), "line skip", path)
    skip = whole_number(fields.get("byteskip", "0"), "byte skip", path)
    if lines > 0:
        begin = _after_lines(data, begin, lines, path)
    dtype = np.dtype((">" if order == "big" else "<") + code)
    voxels = VoxelBytes(path, data, (shape[2], shape[1], shape[0]), dtype)
    if skip == -1 and named == "raw":  # the voxels are the last bytes of the file, whatever comes before
        begin, skip = begin_of_last(voxels, begin), 0
    if skip < 0:
        raise bad_value("byte skip", fields["byteskip"], path)
    return VoxelBytes(path, data, voxels.shape_zyx, dtype, ENCODINGS[named], begin, skip=skip)


def _after_lines(data: Path, begin: int, lines: int, path: Path) -> int:
    with data.open("rb") as file:
        file.seek(begin)
        for _, _ in zip(range(lines), header_lines(file, path), strict=False):
            pass
        return file.tell()


def _directions(fields: dict[str, str], dimensions: int, path: Path) -> list[list[float] | None] | None:
    """Return the step along each axis in the space of the file, none where an axis is not of space; none at all."""
    text = fields.get("spacedirections")
    if text is None:
        return None
    words = re.findall(r"none|\([^()]*\)", text)
    if len(words) != dimensions or re.sub(r"none|\([^()]*\)|\s", "", text):
        raise bad_value("space directions", text, path)
    return [None if word == "none" else _vector(word, "space directions", path) for word in words]


def _vector(text: str, what: str, path: Path) -> list[float]:
    """Return three numbers in brackets."""
    if not re.fullmatch(r"\([^()]*\)", text):
        raise bad_value(what, text, path)
    vector: list[float] = numbers(text[1:-1].replace(",", " "), what, path, 3).tolist()
    return vector


def _spatial_axes(
    fields: dict[str, str], sizes: list[int], directions: list[list[float] | None] | None, path: Path
) -> list[int]:
    """Return the axes of space, fastest first; others must have length 1."""
    kinds = fields.get("kinds", "domain " * len(sizes)).lower().split()
    if len(kinds) != len(sizes):
        raise bad_value("kinds", fields["kinds"], path)
    spatial = []
    for axis, (size, kind) in enumerate(zip(sizes, kinds, strict=True)):
        if directions[axis] is not None if directions else kind in SCALAR_KINDS:
            spatial.append(axis)
        elif size > 1 and (axis > 0 or kind in SCALAR_KINDS):
            text = "x".join(map(str, sizes))
            raise GeometryError(
                f"{path} is {len(sizes)}-D ({text}), and a scan is 3-D.", "Split it into one file for each volume."
            )
        elif size > 1:
            raise DataError(f"{path} holds {size} numbers a voxel, and a scan holds one.")
    return spatial


def _placement(
    fields: dict[str, str], directions: list[list[float] | None] | None, axes: list[int], dimensions: int, path: Path
) -> tuple[Placement, list[str]]:
    space = fields.get("space", "").lower()
    if space and space not in TO_LPS and space not in NO_ANATOMY:
        raise DataError(f"{path} lies in the space {ascii(space)[1:-1][:60]!r}, which is not known.")
    missing = [] if space in TO_LPS else ["anatomical axes (L, P, S)"]
    if directions is None:
        steps, origin_mm, absent = _from_spacings(fields, axes, dimensions, path)
        missing += absent
    else:
        steps = np.array([directions[axis] for axis in axes], dtype=np.float64).T
        origin_mm = np.zeros(3)
        if "spaceorigin" in fields:
            origin_mm = np.array(_vector(fields["spaceorigin"], "space origin", path))
        else:
            missing.append("position (0)")
    to_lps = np.array(TO_LPS.get(space, (1, 1, 1)), dtype=np.float64)
    unit, notes = _unit(fields, "spaceunits" if directions is not None else "units")
    return place(to_lps[:, None] * steps * unit, to_lps * origin_mm * unit, path), notes + missing_notes(missing)


def _from_spacings(
    fields: dict[str, str], axes: list[int], dimensions: int, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return steps, origin and what a header without directions lacks; axes are taken along those of the world."""
    missing = []
    spacing = numbers(fields.get("spacings", "nan " * dimensions), "spacings", path, dimensions)[axes]
    if np.isnan(spacing).any():
        missing.append("spacing (1 mm)")
        spacing = np.where(np.isnan(spacing), 1.0, spacing)
    lowest = numbers(fields.get("axismins", "nan " * dimensions), "axis mins", path, dimensions)[axes]
    if np.isnan(lowest).any():
        missing.append("position (0)")
        lowest = np.zeros(3)
    elif "node" not in fields.get("centerings", "").lower():
        lowest = lowest + spacing / 2  # the least coordinate is the edge of a cell, not its centre
    return np.diag(spacing), lowest, missing


def _unit(fields: dict[str, str], key: str) -> tuple[float, list[str]]:
    """Return the millimetres of a unit of length, and what is to be noted of it."""
    units = {unit.lower() for unit in re.findall(r'"([^"]*)"', fields.get(key, "")) if unit.strip()}
    if len(units) != 1 or not units <= set(MM_PER_UNIT):
        return 1.0, [f"units {', '.join(sorted(units))} were taken as millimetres"] if units else []
    factor = MM_PER_UNIT[units.pop()]
    return factor, unit_notes(factor)
