"""Compare where structures lie with anatomy: right and left by their names, and the air around the patient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Triple = tuple[float, float, float]

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
