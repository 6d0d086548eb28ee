"""What the label preview shows, as plain arrays, and the overlaps that follow from it.

S random crops, K base crops, N = S + K in this order; coordinates are voxels, x to the right, y to the front, z to the
head of the patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIMES = "\N{MULTIPLICATION SIGN}"

IntTriple = tuple[int, int, int]


@dataclass(frozen=True)
class AugmentedCrops:
    """Crops as the network gets them.

    Attributes:
        crops_NXYZ: intensities, about [0, 1].
        captions: what was drawn for each crop, such as ``flip x, 90°, +0.03``.
    """

    crops_NXYZ: NDArray[np.float32]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class LabelScene:
    """One preprocessed scan, its base grid, and random crops with their labels.

    Attributes:
        name: of the scan, as it is to be shown.
        settings_line: recipe and seed, as they are to be shown.
        intensity_line: which window or percentiles became black and white.
        volume_xyz: intensities in [0, 1].
        spacing_mm: of its voxels.
        region_start: lower corner of the region of the grid in the volume.
        grid: base crops along each axis.
        base_size: size of a base crop.
        crop_size: size of a random crop.
        starts_S3: lower corners of the random crops in the volume.
        labels_SK: their position labels; k = (ix * gy + iy) * gz + iz.
        augmented: what the network gets, if that is to be shown.
    """

    name: str
    settings_line: str
    intensity_line: str
    volume_xyz: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    region_start: IntTriple
    grid: IntTriple
    base_size: IntTriple
    crop_size: IntTriple
    starts_S3: NDArray[np.int64]
    labels_SK: NDArray[np.float64]
    augmented: AugmentedCrops | None = None

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the volume."""
        x, y, z = (n * step for n, step in zip(self.volume_xyz.shape, self.spacing_mm, strict=True))
        return (x, y, z)

    @property
    def region_size(self) -> IntTriple:
        """Size of the region that the base crops tile, voxels."""
        x, y, z = (count * edge for count, edge in zip(self.grid, self.base_size, strict=True))
        return (x, y, z)


@dataclass(frozen=True)
class Cell:
    """A base crop: its number as shown, from 1, its place in the grid, its lower corner in the volume, voxels."""

    number: int
    place: IntTriple
    start: IntTriple


@dataclass(frozen=True)
class Piece:
    """The part of a random crop that lies in one base crop: box in the volume, voxels, and its share of the crop."""

    cell: Cell
    low: IntTriple
    high: IntTriple
    share: float


def cells(scene: LabelScene) -> list[Cell]:
    """The base crops, in the order of the labels."""
    found = []
    for number, place in enumerate(np.ndindex(*scene.grid), start=1):
        corner = np.asarray(scene.region_start) + np.asarray(place) * np.asarray(scene.base_size)
        found.append(Cell(number, _triple(place), _triple(corner)))
    return found


def pieces(scene: LabelScene, crop: int) -> list[Piece]:
    """Where random crop ``crop`` overlaps the base crops; shares are those of the label, not measured again."""
    low, found = scene.starts_S3[crop], []
    high = low + np.asarray(scene.crop_size)
    for cell, share in zip(cells(scene), scene.labels_SK[crop], strict=True):
        start = np.asarray(cell.start)
        piece_low, piece_high = np.maximum(low, start), np.minimum(high, start + np.asarray(scene.base_size))
        if share > 0 and (piece_low < piece_high).all():
            found.append(Piece(cell, _triple(piece_low), _triple(piece_high), float(share)))
    return found


def layer_slices(scene: LabelScene) -> list[int]:
    """The axial slice, an index of z, that shows each layer of the grid: its middle."""
    return [
        scene.region_start[2] + layer * scene.base_size[2] + scene.base_size[2] // 2 for layer in range(scene.grid[2])
    ]


def summary_line(scene: LabelScene) -> str:
    """Sizes and intensities in one line, as printed under the title."""
    grid = scene.grid if scene.grid[2] > 1 else scene.grid[:2]
    spacing = TIMES.join(f"{step:.3g}" for step in scene.spacing_mm)
    return (
        f"{scene.settings_line} · volume {times(scene.volume_xyz.shape)} voxels of {spacing} mm · "
        f"grid {times(grid)} of {times(scene.base_size)} · random crops {times(scene.crop_size)} · "
        f"{scene.intensity_line}"
    )


def crop_name(index: int) -> str:
    """r1, r2, ... for 0, 1, ...: neither a base crop's number nor a letter of the patient's sides."""
    return f"r{index + 1}"


def share_text(share: float) -> str:
    """A share in percent: whole numbers, but never 0 % or 100 % for what is merely close to it."""
    if share < 0.01:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def crop_title(scene: LabelScene, crop: int) -> str:
    """Name and centre of a random crop."""
    centre = scene.starts_S3[crop] + np.asarray(scene.crop_size) // 2
    return f"{crop_name(crop)}  centre ({', '.join(str(int(place)) for place in centre)})"


def times(size: tuple[int, ...]) -> str:
    """A size as people write it."""
    return TIMES.join(str(edge) for edge in size)


def _triple(values: Any) -> IntTriple:
    x, y, z = (int(value) for value in values)
    return (x, y, z)
