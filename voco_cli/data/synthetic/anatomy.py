"""The anatomy of a torso: where the organs lie in body coordinates, and how they attenuate.

The field of view reaches from the middle of the chest to the iliac crests. Labels are those of BTCV ("Beyond the
Cranial Vault", 13 organs). Attenuation by contrast phase: round numbers of everyday abdominal CT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]
FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]
BOWEL_LOOPS = 14


class Shape(Protocol):
    """A closed surface that can be tested and moved."""

    def inside(self, body_3XYZ: FloatArray) -> Mask:
        """Return which points (u, v, w) lie inside."""

    def moved(self, shift: Triple, scale: float) -> Self:
        """Return the shape moved by ``shift`` body units and grown by ``scale``."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned about w.

    Attributes:
        centre: body coordinates of the middle.
        radii: half axes, body units.
        turn_deg: rotation from u towards v, degrees.
    """

    centre: Triple
    radii: Triple
    turn_deg: float = 0.0

    def inside(self, body_3XYZ: FloatArray) -> Mask:
        """Return which points lie inside."""
        u, v, w = (body_3XYZ[axis] - np.float32(self.centre[axis]) for axis in range(3))
        if self.turn_deg:
            cos, sin = np.float32(np.cos(np.radians(self.turn_deg))), np.float32(np.sin(np.radians(self.turn_deg)))
            u, v = cos * u + sin * v, cos * v - sin * u
        a, b, c = (np.float32(1 / radius) for radius in self.radii)
        return np.asarray((u * a) ** 2 + (v * b) ** 2 + (w * c) ** 2 < 1)

    def moved(self, shift: Triple, scale: float) -> Self:
        """Return the ellipsoid moved by ``shift`` and grown by ``scale``."""
        u, v, w = (place + step for place, step in zip(self.centre, shift, strict=True))
        a, b, c = (radius * scale for radius in self.radii)
        return replace(self, centre=(u, v, w), radii=(a, b, c))


@dataclass(frozen=True)
class Tube:
    """A tube that runs along one axis: at each place there, a circle around a centre in the two other axes.

    Attributes:
        axis: 0, 1 or 2, the axis along which the tube runs.
        knots: places along the axis, ascending; per place (position, centre on the first other axis, centre on the
            second, radius), all in body units; linear in between, flat ends.
    """

    axis: int
    knots: tuple[tuple[float, float, float, float], ...]

    def inside(self, body_3XYZ: FloatArray) -> Mask:
        """Return which points lie inside."""
        along = body_3XYZ[self.axis]
        first, second = (body_3XYZ[axis] for axis in range(3) if axis != self.axis)
        place, centre_1, centre_2, radius = np.asarray(self.knots).T
        inside = np.zeros(along.shape, dtype=bool)
        reach = (along > place[0]) & (along < place[-1])
        t = along[reach]
        distance2 = (first[reach] - np.interp(t, place, centre_1)) ** 2
        distance2 += (second[reach] - np.interp(t, place, centre_2)) ** 2
        inside[reach] = distance2 < np.interp(t, place, radius) ** 2
        return inside

    def moved(self, shift: Triple, scale: float) -> Self:
        """Return the tube moved by ``shift``; ``scale`` grows its radius and leaves its course."""
        others = [shift[axis] for axis in range(3) if axis != self.axis]
        knots = tuple(
            (place + shift[self.axis], first + others[0], second + others[1], radius * scale)
            for place, first, second, radius in self.knots
        )
        return replace(self, knots=knots)


def union(shapes: Sequence[Shape], body_3XYZ: FloatArray) -> Mask:
    """Return which points lie in any of the shapes."""
    return np.asarray(np.logical_or.reduce([shape.inside(body_3XYZ) for shape in shapes]))


BTCV_ORGANS: dict[int, str] = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal and splenic veins",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}
"""Names of the label values."""


@dataclass(frozen=True)
class Organ:
    """A part of the body that moves as one.

    Attributes:
        name: key into the attenuation of a phase.
        label: value in the label map, 0 where it has none.
        shapes: what it consists of.
        wander: standard deviation of its place from patient to patient, body units.
    """

    name: str
    label: int
    shapes: tuple[Shape, ...]
    wander: float = 0.035


# Painted in this order, so that what comes later lies in front of what came before.
ORGANS: tuple[Organ, ...] = (
    Organ("psoas", 0, tuple(Ellipsoid((side * 0.22, -0.40, -0.85), (0.11, 0.13, 0.65)) for side in (-1, 1)), 0.02),
    Organ("heart", 0, (Ellipsoid((-0.12, 0.26, 0.80), (0.36, 0.34, 0.36), 20.0),)),
    Organ(
        "liver",
        6,
        (
            Ellipsoid((0.44, 0.00, 0.06), (0.36, 0.56, 0.50), 12.0),
            Ellipsoid((0.10, 0.32, 0.20), (0.44, 0.27, 0.26), -8.0),
        ),
    ),
    Organ("spleen", 1, (Ellipsoid((-0.59, -0.20, 0.08), (0.14, 0.32, 0.30), -22.0),)),
    Organ(
        "stomach",
        7,
        (
            Ellipsoid((-0.38, 0.02, 0.28), (0.21, 0.28, 0.22)),
            Ellipsoid((-0.38, 0.24, 0.04), (0.19, 0.23, 0.28), 10.0),
            Ellipsoid((-0.12, 0.38, -0.16), (0.26, 0.14, 0.13), 8.0),
        ),
        0.05,
    ),
    Organ("gallbladder", 4, (Ellipsoid((0.30, 0.36, -0.20), (0.09, 0.13, 0.17), 15.0),), 0.04),
    Organ("colon", 0, (Tube(2, ((-1.6, 0.64, 0.02, 0.12), (-0.32, 0.62, 0.12, 0.13))),), 0.04),
    Organ("colon", 0, (Tube(2, ((-1.6, -0.66, -0.10, 0.10), (-0.10, -0.64, -0.02, 0.11))),), 0.04),
    Organ(
        "colon",
        0,
        (
            Tube(
                0,
                (
                    (-0.68, 0.28, -0.12, 0.10),
                    (-0.2, 0.58, -0.42, 0.11),
                    (0.2, 0.60, -0.46, 0.11),
                    (0.66, 0.2, -0.36, 0.12),
                ),
            ),
        ),
        0.04,
    ),
    Organ("kidney", 2, (Ellipsoid((0.37, -0.42, -0.30), (0.15, 0.18, 0.34), -30.0),), 0.04),
    Organ("kidney", 3, (Ellipsoid((-0.37, -0.42, -0.22), (0.15, 0.18, 0.34), 30.0),), 0.04),
    Organ(
        "pancreas",
        11,
        (
            Tube(
                0,
                (
                    (-0.46, -0.12, 0.08, 0.05),
                    (-0.25, 0.02, 0.04, 0.06),
                    (0.02, 0.11, -0.10, 0.06),
                    (0.20, 0.06, -0.20, 0.09),
                ),
            ),
            Ellipsoid((0.17, 0.05, -0.24), (0.10, 0.11, 0.14)),
        ),
        0.03,
    ),
    Organ(
        "esophagus",
        5,
        (Tube(2, ((0.26, -0.20, -0.08, 0.055), (0.50, -0.06, -0.20, 0.05), (1.6, 0.01, -0.22, 0.05))),),
        0.02,
    ),
    Organ(
        "inferior vena cava",
        9,
        (
            Tube(
                2,
                (
                    (-1.6, 0.12, -0.24, 0.06),
                    (-0.1, 0.14, -0.24, 0.065),
                    (0.30, 0.15, -0.08, 0.075),
                    (0.52, 0.14, 0.02, 0.08),
                ),
            ),
        ),
        0.02,
    ),
    Organ(
        "aorta",
        8,
        (
            Tube(
                2,
                (
                    (-0.85, -0.05, -0.29, 0.05),
                    (0.1, -0.06, -0.30, 0.062),
                    (0.6, -0.15, -0.40, 0.07),
                    (1.6, -0.17, -0.42, 0.075),
                ),
            ),
        ),
        0.02,
    ),
    Organ(
        "portal vein",
        10,
        (
            Tube(0, ((-0.48, -0.18, 0.10, 0.030), (-0.25, -0.06, 0.05, 0.034), (0.08, 0.01, -0.12, 0.042))),
            Tube(0, ((0.03, 0.00, -0.13, 0.045), (0.14, 0.03, -0.04, 0.048), (0.34, 0.10, 0.12, 0.042))),
        ),
        0.025,
    ),
    Organ("adrenal gland", 12, (Ellipsoid((0.21, -0.33, 0.12), (0.038, 0.10, 0.13), 20.0),), 0.025),
    Organ("adrenal gland", 13, (Ellipsoid((-0.19, -0.30, 0.08), (0.038, 0.10, 0.13), -20.0),), 0.025),
)

PHASES: tuple[str, ...] = ("native", "arterial", "portal", "late")

_ATTENUATION_HU: dict[str, tuple[float, float, float, float]] = {
    # organ: HU in the native, arterial, portal-venous and late phase
    "psoas": (50, 58, 62, 60),
    "muscle": (50, 58, 62, 60),
    "heart": (42, 190, 140, 110),
    "liver": (58, 74, 108, 90),
    "spleen": (48, 125, 115, 92),
    "stomach": (28, 34, 40, 38),
    "gallbladder": (10, 12, 12, 12),
    "colon": (22, 28, 34, 32),
    "bowel": (30, 50, 62, 52),
    "kidney": (32, 150, 175, 155),
    "pancreas": (40, 100, 92, 74),
    "esophagus": (38, 52, 60, 56),
    "inferior vena cava": (40, 85, 140, 112),
    "aorta": (42, 270, 155, 112),
    "portal vein": (42, 95, 165, 114),
    "adrenal gland": (30, 68, 70, 58),
    "fat": (-102, -102, -100, -100),
    "lung": (-830, -825, -820, -820),
    "bone": (210, 215, 220, 220),
}

STEADY = ("fat", "muscle", "lung")
"""Tissues that differ little between patients; the others spread by 8 HU, so that organs overlap."""


def draw_attenuation(rng: np.random.Generator) -> dict[str, float]:
    """Draw the attenuation of every tissue of one patient, HU: a contrast phase, and a spread around it."""
    phase = int(rng.integers(len(PHASES)))
    return {name: hu[phase] + rng.normal(0.0, 4.0 if name in STEADY else 8.0) for name, hu in _ATTENUATION_HU.items()}


def draw_organs(rng: np.random.Generator) -> list[Organ]:
    """Draw the organs of one patient: each at its own place (sd ``wander``) and size (sd 10 %)."""
    organs = []
    for organ in ORGANS:
        du, dv, dw = rng.normal(0.0, organ.wander, 3)
        scale = float(np.clip(rng.normal(1.0, 0.10), 0.75, 1.3))
        shapes = tuple(shape.moved((float(du), float(dv), float(dw)), scale) for shape in organ.shapes)
        organs.append(replace(organ, shapes=shapes))
    return organs


def draw_bowel(rng: np.random.Generator) -> list[tuple[Ellipsoid, bool]]:
    """Draw loops of small bowel anywhere in the lower belly, and whether each is filled with gas."""
    loops = []
    for _ in range(BOWEL_LOOPS):
        centre = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.0, 0.58)), float(rng.uniform(-1.1, -0.32)))
        radii = (float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.07, 0.14)), float(rng.uniform(0.08, 0.16)))
        loops.append((Ellipsoid(centre, radii, float(rng.uniform(-60, 60))), bool(rng.random() < 0.2)))
    return loops


RIB_PERIOD = 0.21
"""Distance of two ribs, and of two vertebrae, along w: 34 mm."""


@dataclass(frozen=True)
class TissueMasks:
    """Masks of the frame, all of one shape; ``bone`` is cortex, ``marrow`` the spongy inside of vertebrae."""

    skin: Mask
    muscle: Mask
    cavity: Mask
    lungs: Mask
    bone: Mask
    marrow: Mask
    canal: Mask


@dataclass(frozen=True)
class Wall:
    """One patient's frame.

    Attributes:
        fat: thickness of the fat under the skin, body units.
        muscle: thickness of the muscle, body units.
        dome: height w of the top of the right half of the diaphragm.
        rib_phase: where along w the ribs and vertebrae begin, in periods.
        rib_slope: how far a rib sinks towards the front, in w per v.
    """

    fat: float
    muscle: float
    dome: float
    rib_phase: float
    rib_slope: float

    def masks(self, body_3XYZ: FloatArray) -> TissueMasks:
        """Return the frame at the points (u, v, w) of ``body_3XYZ``."""
        u, v, w = body_3XYZ
        # A superellipse: flatter at back and front than an ellipse, and narrower at the waist.
        waist = 1 - 0.06 * np.exp(-(((w + 0.55) / 0.4) ** 2))
        radius = (np.abs(u / waist) ** 2.5 + np.abs(v / waist) ** 2.5) ** np.float32(1 / 2.5)
        inner = 1 - self.fat - self.muscle
        skin = radius < 1
        # Back muscles fill the groove beside the spine; the lungs reach further back than the belly does.
        groove = np.where(w > self.dome - 0.3, 0.85, 0.45)
        cavity = (radius < inner) & (v > -0.50 - groove * np.abs(u))
        muscle = (radius < 1 - self.fat) & ~cavity
        lungs = self._lungs(body_3XYZ, cavity)
        bone, marrow, canal = self._spine(body_3XYZ)
        bone |= self._ribs(body_3XYZ, radius, inner) & muscle
        return TissueMasks(skin, muscle, cavity, lungs, bone & skin, marrow, canal)

    def _lungs(self, body_3XYZ: FloatArray, cavity: Mask) -> Mask:
        u, v, w = body_3XYZ
        right = self.dome - 0.9 * (u - 0.42) ** 2 - 0.75 * (v - 0.15) ** 2
        left = self.dome - 0.08 - 0.9 * (u + 0.42) ** 2 - 0.75 * (v - 0.15) ** 2
        mediastinum = np.abs(u + 0.02) < 0.17 + 0.10 * np.clip(v, -0.5, 0.5)
        return np.asarray(cavity & (w > np.where(u > 0, right, left)) & ~mediastinum)

    def _spine(self, body_3XYZ: FloatArray) -> tuple[Mask, Mask, Mask]:
        _, _, w = body_3XYZ
        body = Tube(2, ((-3.0, 0.0, -0.52, 0.145), (0.0, 0.0, -0.52, 0.13), (3.0, 0.0, -0.52, 0.11)))
        processes = (
            Ellipsoid((0.0, -0.80, 0.0), (0.03, 0.14, 9.0)),
            Ellipsoid((0.0, -0.69, 0.0), (0.22, 0.05, 9.0)),
        )
        canal = Tube(2, ((-3.0, 0.0, -0.70, 0.055), (3.0, 0.0, -0.70, 0.055))).inside(body_3XYZ)
        phase = np.mod(w / np.float32(RIB_PERIOD) + self.rib_phase, 1.0)
        disc = phase < 0.2
        vertebra = body.inside(body_3XYZ)
        core = body.moved((0.0, 0.0, 0.0), 0.82).inside(body_3XYZ) & (phase > 0.3) & (phase < 0.9)
        bone = ((vertebra & ~core) | (union(processes, body_3XYZ) & (phase > 0.45))) & ~disc & ~canal
        return bone, core & ~canal, canal

    def _ribs(self, body_3XYZ: FloatArray, radius: FloatArray, inner: float) -> Mask:
        u, v, w = body_3XYZ
        phase = (w + self.rib_slope * v) / np.float32(RIB_PERIOD) + self.rib_phase
        shell = (radius > inner + 0.01) & (radius < inner + 0.01 + 0.75 * self.muscle)
        caged = w > -0.20 - 0.35 * v  # the arch: ribs reach lower at the back than at the front
        rib = (np.cos(2 * np.pi * phase) > 0.4) & caged & (np.abs(u) > 0.12) & (v > -0.86)
        sternum = (np.abs(u) < 0.09) & (v > 0) & (w > 0.5)
        return np.asarray(shell & (rib | sternum))


def draw_wall(rng: np.random.Generator) -> Wall:
    """Draw the frame of one patient."""
    return Wall(
        fat=float(rng.uniform(0.05, 0.14)),
        muscle=float(rng.uniform(0.06, 0.09)),
        dome=float(rng.normal(0.52, 0.05)),
        rib_phase=float(rng.uniform()),
        rib_slope=float(rng.uniform(0.3, 0.55)),
    )
