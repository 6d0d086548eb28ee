"""Draw axial slices of a case as small pictures, grey image and coloured overlays apart, for a page to layer."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from voco_cli.data.io.image import Scan
from voco_cli.evaluate.patient_case import PatientCase, patient_case, value_counts
from voco_cli.figures.style import CROP_COLOURS

STRUCTURE_COLOURS = (
    *CROP_COLOURS,
    *("#870FFF", "#00FF96", "#D2003C", "#8778FF", "#A5F0D2", "#D2A55A", "#FFD2FF"),
    *("#D200B4", "#B42D78", "#B4F069", "#87C387", "#2D783C", "#784BF0"),
)
"""After the first seven, each colour is the one farthest from those before it in CIELAB, for normal sight and for the
three dichromacies as simulated by Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), among colours that stand out
from grey."""

SIDES = ("R", "L", "A", "P")
"""Of the patient, at the left, right, upper and lower edge of an axial slice as `upright` lays it.

The order of the file does not matter: `patient_case` turns the voxels by the direction in the header first."""
FILL_ALPHA = 110
OUTLINE_PX = 2
WEBP_QUALITY = 70

ByteImage = NDArray[np.uint8]


@dataclass(frozen=True)
class ShownStructure:
    """A structure with the label values that belong to it and its colour, ``#rrggbb``."""

    name: str
    values: tuple[int, ...]
    colour: str


@dataclass(frozen=True)
class SliceLayers:
    """Pictures of one slice, all of one size, to be laid over each other.

    Attributes:
        index: of the slice in the file, from 0, along the axis nearest to the patient's length.
        image: grey, WebP.
        label: structures filled, half transparent, WebP with alpha; None where the case has no label map.
        prediction: structures outlined, WebP with alpha; None where the case has no prediction.
    """

    index: int
    image: bytes
    label: bytes | None
    prediction: bytes | None


@dataclass(frozen=True)
class CaseSlices:
    """Slices from the feet to the head; the patient's right is on the left, the front on top.

    Attributes:
        width_px, height_px: of every picture.
        window: intensities that are black and white.
        structures: what the colours mean.
        slices: the pictures.
    """

    width_px: int
    height_px: int
    window: tuple[float, float]
    structures: tuple[ShownStructure, ...]
    slices: tuple[SliceLayers, ...]


def shown_structures(classes: Iterable[tuple[str, Sequence[int]]]) -> tuple[ShownStructure, ...]:
    """Return names and label values with colours, in their order; colours repeat after twenty."""
    return tuple(
        ShownStructure(name, tuple(values), STRUCTURE_COLOURS[number % len(STRUCTURE_COLOURS)])
        for number, (name, values) in enumerate(classes)
    )


def draw_case_slices(
    image: Scan,
    label: Scan | None,
    prediction: Scan | None,
    structures: Sequence[ShownStructure],
    window: tuple[float, float],
    most_slices: int = 32,
    longest_px: int = 320,
) -> CaseSlices:
    """Draw the slices that show a case best, in true proportions.

    Args:
        image: in any orientation; an oblique one is shown along its own axes.
        label, prediction: laid on the grid of the image by their headers.
        structures: what is coloured; a value of two structures takes the colour of the first.
        window: intensities that become black and white.
        most_slices: slices at most; see `choose_slices`.
        longest_px: the longer edge of the pictures.
    Raises:
        DataError, GeometryError: as `patient_case`.
    """
    case = patient_case(image, label, prediction)
    scale = longest_px / max(case.extent_mm[:2])
    width, height = (max(1, round(edge_mm * scale)) for edge_mm in case.extent_mm[:2])
    slices = []
    for index in choose_slices(case, structures, most_slices):
        label_hw, prediction_hw = (
            None if values is None else resized_labels(values[:, :, index], width, height)
            for values in (case.label_xyz, case.prediction_xyz)
        )
        slices.append(
            SliceLayers(
                index=case.file_index(2, index),
                image=_webp(resized_grey(case.image_xyz[:, :, index], window, width, height), lossless=False),
                label=None if label_hw is None else _webp(filled(label_hw, structures), lossless=True),
                prediction=None if prediction_hw is None else _webp(outlined(prediction_hw, structures), lossless=True),
            )
        )
    return CaseSlices(width, height, window, tuple(structures), tuple(slices))


def choose_slices(case: PatientCase, structures: Sequence[ShownStructure], most: int) -> list[int]:
    """Choose slices across z: all, or those that hold a structure and as many around them as there is room for.

    Where even those are too many, they are spaced evenly, and a structure that falls between the chosen slices gets
    the one in which it is largest, in place of the nearest.

    Returns:
        at most ``most`` indices of z, rising.
    """
    count = case.image_xyz.shape[2]
    areas_NZ = _areas(case, structures)
    held = np.flatnonzero(areas_NZ.any(axis=0))
    low, high = (int(held[0]), int(held[-1])) if held.size else (0, count - 1)
    spare = min(most, count) - (high - low + 1)
    if spare >= 0:
        low = min(max(low - spare // 2, 0), count - min(most, count))
        return list(range(low, low + min(most, count)))
    chosen = np.rint(np.linspace(low, high, most)).astype(int)
    for areas_Z in areas_NZ:
        if areas_Z.any() and not areas_Z[chosen].any():
            largest = int(areas_Z.argmax())
            chosen[np.abs(chosen - largest).argmin()] = largest
    return sorted({int(index) for index in chosen})


def _areas(case: PatientCase, structures: Sequence[ShownStructure]) -> NDArray[np.int64]:
    """Count the voxels of each structure in each slice across z, label and prediction together."""
    areas_NZ = np.zeros((len(structures), case.image_xyz.shape[2]), np.int64)
    for values in (case.label_xyz, case.prediction_xyz):
        if values is not None:
            counts_VZ = value_counts(values)
            for number, one in enumerate(structures):
                areas_NZ[number] += counts_VZ[[value for value in one.values if value < len(counts_VZ)]].sum(axis=0)
    return areas_NZ


def upright(plane_xy: NDArray[Any]) -> NDArray[Any]:
    """Return rows from the second axis, highest on top, and columns from the first, highest at the left."""
    return plane_xy[::-1, ::-1].T


def filled(label_hw: NDArray[Any], structures: Sequence[ShownStructure]) -> ByteImage:
    """Fill structures with their colours, half transparent; RGBA."""
    return np.asarray(_palette(structures, FILL_ALPHA)[_numbers(label_hw, structures)])


def outlined(label_hw: NDArray[Any], structures: Sequence[ShownStructure], width_px: int = OUTLINE_PX) -> ByteImage:
    """Draw the borders of structures, opaque and inside them, ``width_px`` wide; RGBA."""
    number_hw = _numbers(label_hw, structures)
    # A pixel with another value within reach lies at a border; the edge of the picture is none.
    differs = ndimage.minimum_filter(number_hw, size=2 * width_px + 1, mode="nearest") != number_hw
    differs |= ndimage.maximum_filter(number_hw, size=2 * width_px + 1, mode="nearest") != number_hw
    return np.asarray(_palette(structures, 255)[np.where(differs, number_hw, 0)])


def _numbers(label_hw: NDArray[Any], structures: Sequence[ShownStructure]) -> NDArray[np.intp]:
    """Return the number of each pixel's structure, from 1; 0 for none."""
    number_of = np.zeros(int(label_hw.max(initial=0)) + 1, np.intp)
    for number, one in reversed(list(enumerate(structures, start=1))):
        for value in one.values:
            if value < number_of.size:
                number_of[value] = number
    return np.asarray(number_of[label_hw])


def _palette(structures: Sequence[ShownStructure], alpha: int) -> ByteImage:
    colours = [(0, 0, 0, 0)] + [(*bytes.fromhex(one.colour[1:]), alpha) for one in structures]
    return np.array(colours, np.uint8)


def resized_labels(plane_xy: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Return a slice of a label map at the size of a picture: the value at each pixel's centre."""
    rows, columns = (
        ((np.arange(size) + 0.5) * count / size).astype(np.intp)
        for size, count in ((height, plane_xy.shape[1]), (width, plane_xy.shape[0]))
    )
    return upright(plane_xy)[np.ix_(rows, columns)]


def resized_grey(plane_xy: NDArray[Any], window: tuple[float, float], width: int, height: int) -> ByteImage:
    """Return a slice of an image at the size of a picture, smooth, in 256 steps; what is no number is black."""
    low, high = window
    scaled_hw = (np.nan_to_num(upright(plane_xy).astype(np.float32), nan=low) - low) * (255 / (high - low))
    grey = Image.fromarray(np.ascontiguousarray(np.rint(np.clip(scaled_hw, 0, 255)), dtype=np.uint8))
    return np.asarray(grey.resize((width, height), Image.Resampling.BICUBIC))


def _webp(pixels: ByteImage, lossless: bool) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=lossless, quality=100 if lossless else WEBP_QUALITY)
    return stream.getvalue()
