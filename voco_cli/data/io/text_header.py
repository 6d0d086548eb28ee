"""Parts that NRRD and MetaImage share: bounded lines of text, numbers, the file of the voxels, the finished header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.geometry import MOST_MM, Placement
from voco_cli.data.io.image import Header
from voco_cli.data.io.voxel_bytes import VoxelBytes, check_length
from voco_cli.errors import DataError

MAX_HEADER_BYTES = 1 << 22
"""Descriptions of hundreds of segments take a few hundred kilobytes."""


def header_lines(file: IO[bytes], path: Path) -> Iterator[str]:
    """Yield the lines of a header without their ends; the last of a file may lack one.

    Raises:
        DataError: longer than a header can be.
    """
    left = MAX_HEADER_BYTES
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise DataError(f"{path} has a header of more than {MAX_HEADER_BYTES >> 20} MB, which is not one.")
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def whole_numbers(text: str, what: str, path: Path) -> list[int]:
    """Return whole numbers that are separated by spaces.

    Raises:
        DataError: anything else.
    """
    words = text.split()
    if not all(re.fullmatch(r"[+-]?[0-9]{1,18}", word) for word in words):
        raise bad_value(what, text, path)
    return [int(word) for word in words]


def whole_number(text: str, what: str, path: Path) -> int:
    """Return one whole number.

    Raises:
        DataError: anything else.
    """
    found = whole_numbers(text, what, path)
    if len(found) != 1:
        raise bad_value(what, text, path)
    return found[0]


def numbers(text: str, what: str, path: Path, count: int) -> NDArray[np.float64]:
    """Return so many numbers that are separated by spaces.

    Raises:
        DataError: anything else.
    """
    try:
        found = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise bad_value(what, text, path) from error
    if len(found) != count or (np.abs(found) > MOST_MM).any():
        raise bad_value(what, text, path)
    return found


def bad_value(what: str, text: str, path: Path) -> DataError:
    """Return the error of a value that a key cannot have, shortened to what fits into a sentence."""
    shown = ascii(text)
    shown = shown if len(shown) <= 60 else f"{shown[:56]}...'"
    return DataError(f"{path} has a damaged header: {what} is {shown}.", "Copy or download it again.")


def required(fields: Mapping[str, str], key: str, path: Path) -> str:
    """Return the value of a key.

    Raises:
        DataError: the header has none.
    """
    if key not in fields:
        raise DataError(f"{path} has a damaged header: it does not state {key!r}.", "Copy or download it again.")
    return fields[key]


def header_of(
    path: Path, kind: str, description: str, voxels: VoxelBytes, placement: Placement, notes: Sequence[str]
) -> Header:
    """Return the header of an image whose voxels were found; their length on disk is checked.

    Args:
        kind: the format, as `Header` calls it.
        notes: what is to be noted beside the repairs of the placement.
    Raises:
        DataError: another length than the header says.
    """
    z, y, x = voxels.shape_zyx
    dtype = voxels.dtype.newbyteorder("=").name
    return Header(
        path, (x, y, z), dtype, placement, kind, (*placement.notes, *notes, *check_length(voxels)), description
    )


def missing_notes(missing: Sequence[str]) -> list[str]:
    """Return the note on what a header does not state, each with what was taken in brackets; none where nothing is."""
    return [f"the header does not state {', '.join(missing)}; what stands in brackets was taken"] if missing else []


def begin_of_last(voxels: VoxelBytes, least: int) -> int:
    """Return the byte at which voxels begin that are the last of their file, whatever comes before; at ``least``."""
    return max(least, voxels.data.stat().st_size - voxels.num_bytes)


def beside(path: Path, name: str) -> Path:
    """Return the file that a header names as that of its voxels.

    Raises:
        DataError: several files, or one that is missing.
    """
    if name.split()[:1] == ["LIST"] or re.search(r"%[0-9]*[du]", name):
        raise DataError(
            f"{path} has its voxels in several files, which is not read.", "Save it again with all voxels in one file."
        )
    data = path.parent / name
    if not name or "\0" in name or not data.is_file():
        raise DataError(f"{path} names {ascii(name)[1:-1][:200]} as its data file, which is missing.", "Copy both.")
    return data
