"""Whether structures lie where anatomy has them, by their names: right and left, front and back, head and feet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Centre = tuple[float, float, float]

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


@dataclass(frozen=True)
class SideFinding:
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


def wrong_sides(centres: Mapping[str, Centre]) -> tuple[SideFinding, ...]:
    """Compare where structures lie with where anatomy has them.

    Args:
        centres: name of a structure to its centre along right, front, head, in mm or voxels.
    Returns:
        axes with more contradictions than agreements; nothing of structures whose names say nothing. Patients with
        situs inversus contradict anatomy, too.
    """
    words = {name: _words(name) for name in centres}
    pairs = {(axis, *pair) for axis, *given in EXPECTED for pair in _pairs(words, given)}
    pairs |= {(0, right, left) for right, left in _sided(words)}
    findings = []
    for axis in range(3):
        ours = sorted((first, second) for where, first, second in pairs if where == axis)
        wrong = tuple(pair for pair in ours if centres[pair[0]][axis] < centres[pair[1]][axis])
        if len(wrong) > len(ours) - len(wrong):
            findings.append(SideFinding(axis, wrong, len(ours) - len(wrong)))
    return tuple(findings)


def _words(name: str) -> frozenset[str]:
    found = re.findall(r"[a-z]+[0-9]*|[0-9]+", name.lower())
    return frozenset({"l": "left", "r": "right", "lt": "left", "rt": "right"}.get(word, word) for word in found)


def _pairs(words: Mapping[str, frozenset[str]], given: Sequence[str]) -> list[tuple[str, str]]:
    """Structures that the words of an expectation name; gallbladder is one word, and no bladder."""
    first, second = (frozenset(one.split()) for one in given)
    return [
        (one, other)
        for one, has in words.items()
        for other, holds in words.items()
        if first <= has and second <= holds and one != other
    ]


def _sided(words: Mapping[str, frozenset[str]]) -> list[tuple[str, str]]:
    """Structures whose names differ in right and left alone."""
    return [
        (one, other)
        for one, has in words.items()
        for other, holds in words.items()
        if "right" in has and has ^ holds == {"right", "left"}
    ]


AIR_BELOW_HU = -900.0
"""Between air at -1000 HU and lungs at about -850 HU."""
CT_PERCENTILES = (1.0, 99.9)
CT_RANGE = (-800.0, 50.0)
STEP_MM = 4.0


def looks_like_ct(image_xyz: NDArray[Any]) -> bool:
    """Whether intensities reach from air to more than water, as those of a CT with some air around or in it do."""
    steps = tuple(slice(None, None, max(1, n // 64)) for n in image_xyz.shape)
    low, high = np.nanpercentile(image_xyz[steps].astype(np.float32), CT_PERCENTILES)
    return bool(low <= CT_RANGE[0] and high >= CT_RANGE[1])


def outside_shares(
    image_hu_xyz: NDArray[Any], label_xyz: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> dict[int, float]:
    """Share of each label value that lies in the air around the patient, on a grid of about ``STEP_MM``.

    Air is what is below ``AIR_BELOW_HU`` after a mean over 3x3x3 and connected to a lateral, front or back face of the
    volume; lungs that a small field of view cuts may count to it only where they are emphysematous.
    """
    coarse = tuple(slice(None, None, max(1, round(STEP_MM / step))) for step in spacing_mm)
    image = np.nan_to_num(image_hu_xyz[coarse].astype(np.float32), nan=-1000.0)
    label = label_xyz[coarse]
    air = ndimage.uniform_filter(image, 3, mode="nearest") < AIR_BELOW_HU
    parts, _ = ndimage.label(air)
    faces = [parts[0], parts[-1], parts[:, 0], parts[:, -1]]
    around = np.isin(parts, np.setdiff1d(np.concatenate([face.ravel() for face in faces]), [0]))
    whole = np.bincount(label.ravel())
    inside = np.bincount(label[around].ravel(), minlength=whole.size)
    return {int(value): float(inside[value] / whole[value]) for value in np.flatnonzero(whole) if value}
