"""Measure how well a label map fits its image and the patient.

By its borders, as it lies and turned over in every way; by anatomy, from the names of its structures; by the air.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MOST_PAIRS = 10_000
FEWEST_PAIRS = 100
DISPLACED = 40
FEWEST_DISPLACED = 15
"""Displaced labels that lie inside the image by half or more; with fewer, nothing is concluded."""
DISPLACED_MM = (8.0, 30.0)
DISPLACED_SHARE = 0.3
"""Of the grid's edge along each axis, at most: label maps of crops would leave the image otherwise."""
INTENSITY_PERCENTILES = (5.0, 95.0)

# Measured on 45 phantoms, 3 CT and 132 MR with their label maps, each turned over in all seven ways: a label in its
# place is at least 3.6 standard deviations above displaced ones, a wrong one at most 3.6; the jump of a wrong one is at
# most 0.83 of that of the right one. Labels of another patient are mostly below 2.
FITS_FROM_SD = 3.0
LOWER_SHARE = 0.9
ASTRAY_BELOW_SD = 2.0

AXIS_WORDS = ("left-right", "front-back", "head-feet")

Points = NDArray[np.intp]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """What is done to a label map before it is laid on the image.

    Attributes:
        exchanged: x and y change places, as when a transposed array was stored.
        flipped: whether x, y, z are reversed, after that.
    """

    exchanged: bool = False
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def __str__(self) -> str:
        axes = [axis for axis, against in zip(AXIS_WORDS, self.flipped, strict=True) if against]
        words = ["x and y exchanged"] * self.exchanged + [f"flipped {' and '.join(axes)}"] * bool(axes)
        return ", ".join(words) or "as it lies"

    def move(self, points_N3: Points, shape_xyz: tuple[int, ...]) -> Points:
        """Return where voxels of the label come to lie."""
        moved = points_N3[:, [1, 0, 2]] if self.exchanged else points_N3
        return np.where(self.flipped, np.asarray(shape_xyz) - 1 - moved, moved)


@dataclass(frozen=True)
class Fit:
    """How well a label fits in one turn.

    Attributes:
        turn: done to the label.
        jump: mean jump of intensity across its borders; 1 is the range between the 5th and the 95th percentile of
            intensities at borders, to which they are clipped.
        displaced: the same for displaced labels, mean.
        spread: of those, standard deviation.
    """

    turn: Turn
    jump: float
    displaced: float
    spread: float

    @property
    def above_sd(self) -> float:
        """Return by how many standard deviations the jump is above that of displaced labels."""
        return (self.jump - self.displaced) / self.spread if self.spread > 0 else 0.0


@dataclass(frozen=True)
class LabelFit:
    """Fits of all turns, the label as it is first."""

    fits: tuple[Fit, ...]

    @property
    def as_is(self) -> Fit:
        """Return the fit of the label where it lies."""
        return self.fits[0]

    @property
    def astray(self) -> bool:
        """Return whether the label fits its image hardly better than displaced ones do, in no turn."""
        return self.better is None and self.as_is.above_sd < ASTRAY_BELOW_SD

    @property
    def better(self) -> Fit | None:
        """Return the turn that fits clearly better than the label as it is, if one does."""
        best = max(self.fits, key=lambda fit: fit.jump)
        if best is self.as_is or best.above_sd < FITS_FROM_SD:
            return None
        lower = self.as_is.jump <= LOWER_SHARE * best.jump and self.as_is.above_sd <= LOWER_SHARE * best.above_sd
        return best if lower else None


def label_fit(image_xyz: NDArray[Any], label_xyz: NDArray[Any], spacing_mm: Triple, seed: int = 0) -> LabelFit | None:
    """Compare a label map as it is with the same one flipped along each axis, and transposed where the grid is square.

    Args:
        image_xyz: intensities; what is not finite counts as the lowest.
        label_xyz: whole numbers, on the same grid.
        spacing_mm: of the voxels along x, y, z.
        seed: of the displacements, and of the choice among many border voxels.
    Returns:
        None where nothing can be concluded: fewer than ``FEWEST_PAIRS`` border voxels, an image without contrast, or a
        label that nearly fills the grid, so that it cannot be displaced.
    """
    rng = np.random.default_rng(seed)
    first_N3, second_N3 = _border_pairs(label_xyz, rng)
    if len(first_N3) < FEWEST_PAIRS:
        return None
    square = image_xyz.shape[0] == image_xyz.shape[1]
    turns = [
        Turn(exchanged, (flip_x, flip_y, flip_z))
        for exchanged, flip_x, flip_y, flip_z in product((False, True)[: 1 + square], *[(False, True)] * 3)
    ]
    pairs = [(turn.move(first_N3, image_xyz.shape), turn.move(second_N3, image_xyz.shape)) for turn in turns]
    low, high = np.nanpercentile(
        np.concatenate([_values(image_xyz, first) for first, _ in pairs]), INTENSITY_PERCENTILES
    )
    if not low < high:
        return None
    steps_D3 = _displacements(rng, image_xyz.shape, spacing_mm)
    fits = []
    for turn, (first, second) in zip(turns, pairs, strict=True):
        jumps = [_jump(image_xyz, first + step, second + step, (low, high)) for step in (0, *steps_D3)]
        displaced = np.array([jump for jump in jumps[1:] if jump is not None])
        if jumps[0] is None or len(displaced) < FEWEST_DISPLACED:
            return None
        fits.append(Fit(turn, jumps[0], float(displaced.mean()), float(displaced.std())))
    return LabelFit(tuple(fits))


def _border_pairs(label_xyz: NDArray[Any], rng: np.random.Generator) -> tuple[Points, Points]:
    """Draw at most ``MOST_PAIRS`` neighbours along x, y and z with different labels; each of shape N, 3."""
    held = [np.flatnonzero(label_xyz.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not held[0].size:
        return np.zeros((0, 3), np.intp), np.zeros((0, 3), np.intp)
    starts = [max(int(places[0]) - 1, 0) for places in held]
    box = label_xyz[tuple(slice(start, int(places[-1]) + 2) for start, places in zip(starts, held, strict=True))]
    found = []
    for axis in range(3):
        along = np.moveaxis(box, axis, 0)
        lower = np.argwhere(np.moveaxis(along[1:] != along[:-1], 0, axis)) + starts
        found.append(np.stack([lower, lower + np.eye(3, dtype=np.intp)[axis]]))
    first_N3, second_N3 = np.concatenate(found, axis=1)
    if len(first_N3) > MOST_PAIRS:
        drawn = rng.choice(len(first_N3), MOST_PAIRS, replace=False)
        return first_N3[drawn], second_N3[drawn]
    return first_N3, second_N3


def _displacements(rng: np.random.Generator, shape_xyz: tuple[int, ...], spacing_mm: Sequence[float]) -> Points:
    """Draw steps in random directions, of lengths within ``DISPLACED_MM``, as whole voxels; none of them zero."""
    directions = rng.normal(size=(100 * DISPLACED, 3))
    directions *= rng.uniform(*DISPLACED_MM, (len(directions), 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.rint(directions / np.asarray(spacing_mm)).astype(np.intp)
    usable = steps.any(axis=1) & (np.abs(steps) <= DISPLACED_SHARE * np.asarray(shape_xyz)).all(axis=1)
    return np.asarray(steps[usable][:DISPLACED])


def _values(image_xyz: NDArray[Any], points_N3: Points) -> NDArray[np.float32]:
    x, y, z = points_N3.T
    return np.asarray(image_xyz[x, y, z], dtype=np.float32)


def _jump(image_xyz: NDArray[Any], first_N3: Points, second_N3: Points, ends: tuple[float, float]) -> float | None:
    """Return the mean difference across the pairs that lie inside the image; None where fewer than half do."""
    inside = np.ones(len(first_N3), bool)
    for points in (first_N3, second_N3):
        inside &= ((points >= 0) & (points < image_xyz.shape)).all(axis=1)
    if 2 * np.count_nonzero(inside) < len(inside):
        return None
    low, high = ends
    first, second = (
        np.clip(np.nan_to_num(_values(image_xyz, points[inside]), nan=low, neginf=low, posinf=high), low, high)
        for points in (first_N3, second_N3)
    )
    return float(np.abs(first - second).mean() / (high - low))


# (axis, words of a structure, words of another): the centre of the first lies farther to the right, front or head.
# Only what holds in nearly all patients; a structure is named by all of its words, whatever else its name says.
EXPECTED: tuple[tuple[int, str, str], ...] = (
    (0, "liver", "spleen"),
    (0, "liver", "stomach"),
    (0, "gallbladder", "spleen"),
    (0, "inferior cava", "aorta"),
    (0, "postcava", "aorta"),
    (1, "liver", "right kidney"),
    (1, "stomach", "left kidney"),
    (1, "pancreas", "left kidney"),
    (1, "heart", "spinal"),
    (1, "aorta", "spinal"),
    (1, "bladder", "sacrum"),
    (2, "heart", "kidney"),
    (2, "heart", "bladder"),
    (2, "lung", "kidney"),
    (2, "lung", "liver"),
    (2, "esophagus", "kidney"),
    (2, "oesophagus", "kidney"),
    (2, "liver", "bladder"),
    (2, "kidney", "bladder"),
)
WRONG = ("left of", "behind", "below")
SIDE_WORDS = {"l": "left", "r": "right", "lt": "left", "rt": "right"}


@dataclass(frozen=True)
class MirroredAxis:
    """An axis along which more pairs of structures lie the wrong way round than the right one.

    Attributes:
        axis: 0 right-left, 1 front-back, 2 head-feet.
        wrong: pairs such as ``("liver", "spleen")`` whose first should lie farther to the right, front or head.
        right: number of pairs that lie as they should.
    """

    axis: int
    wrong: tuple[tuple[str, str], ...]
    right: int

    def __str__(self) -> str:
        named = ", ".join(f"{first} {WRONG[self.axis]} {second}" for first, second in self.wrong[:3])
        return f"{named} ({len(self.wrong)} of {len(self.wrong) + self.right} pairs lie the wrong way round)"


def check_orientation(centres: Mapping[str, Triple]) -> tuple[MirroredAxis, ...]:
    """Compare where structures lie with where anatomy has them, by their names.

    Args:
        centres: name of a structure to its centre along right, front, head, in mm or voxels.
    Returns:
        axes with more contradictions than agreements; nothing of structures whose names say nothing. Patients with
        situs inversus contradict anatomy, too.
    """
    words = {name: _words(name) for name in centres}
    pairs = {
        (axis, one, other)
        for axis, first, second in EXPECTED
        for one, has in words.items()
        for other, holds in words.items()
        if one != other and set(first.split()) <= has and set(second.split()) <= holds
    }
    pairs |= {  # structures whose names differ in right and left alone
        (0, one, other)
        for one, has in words.items()
        for other, holds in words.items()
        if "right" in has and has ^ holds == {"right", "left"}
    }
    findings = []
    for axis in range(3):
        ours = sorted((first, second) for where, first, second in pairs if where == axis)
        wrong = tuple(pair for pair in ours if centres[pair[0]][axis] < centres[pair[1]][axis])
        if len(wrong) > len(ours) - len(wrong):
            findings.append(MirroredAxis(axis, wrong, len(ours) - len(wrong)))
    return tuple(findings)


def _words(name: str) -> frozenset[str]:
    """Return the words of a name, sides in full; gallbladder is one word, and no bladder."""
    return frozenset(SIDE_WORDS.get(word, word) for word in re.findall(r"[a-z]+[0-9]*|[0-9]+", name.lower()))


AIR_BELOW_HU = -900.0
"""Between air at -1000 HU and lungs at about -850 HU."""
CT_PERCENTILES = (1.0, 99.9)
CT_RANGE = (-800.0, 50.0)
STEP_MM = 4.0


def looks_like_ct(image_xyz: NDArray[Any]) -> bool:
    """Return whether intensities reach from air to more than water, as those of a CT with some air in view do."""
    steps = tuple(slice(None, None, max(1, n // 64)) for n in image_xyz.shape)
    low, high = np.nanpercentile(image_xyz[steps].astype(np.float32), CT_PERCENTILES)
    return bool(low <= CT_RANGE[0] and high >= CT_RANGE[1])


def air_mask(image_hu_xyz: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the air around the patient is.

    Air is what is below ``AIR_BELOW_HU`` after a mean over 3x3x3 and connected to a lateral, front or back face of the
    volume; lungs that a small field of view cuts may count to it only where they are emphysematous.
    """
    image = np.nan_to_num(image_hu_xyz.astype(np.float32), nan=-1000.0)
    parts, _ = ndimage.label(ndimage.uniform_filter(image, 3, mode="nearest") < AIR_BELOW_HU)
    faces = [parts[0], parts[-1], parts[:, 0], parts[:, -1]]
    return np.isin(parts, np.setdiff1d(np.concatenate([face.ravel() for face in faces]), [0]))


def shares_in_air(image_hu_xyz: NDArray[Any], label_xyz: NDArray[Any], spacing_mm: Triple) -> dict[int, float]:
    """Return the share of each label value that lies in the air around the patient, on a grid of about ``STEP_MM``."""
    coarse = tuple(slice(None, None, max(1, round(STEP_MM / step))) for step in spacing_mm)
    label = label_xyz[coarse]
    whole = np.bincount(label.ravel())
    in_air = np.bincount(label[air_mask(image_hu_xyz[coarse])].ravel(), minlength=whole.size)
    return {int(value): float(in_air[value] / whole[value]) for value in np.flatnonzero(whole) if value}
