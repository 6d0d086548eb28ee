"""What a torso holds: where the organs lie in body coordinates, and how they attenuate.

The field of view reaches from the middle of the chest to the iliac crests. Labels are those of BTCV ("Beyond the
Cranial Vault", 13 organs). Attenuation by contrast phase: round numbers of everyday abdominal CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voco_cli.phantom.shapes import Ellipsoid, Shape, Tube

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
    """Attenuation of every tissue of one patient, HU: a contrast phase, and a spread around it."""
    phase = int(rng.integers(len(PHASES)))
    return {name: hu[phase] + rng.normal(0.0, 4.0 if name in STEADY else 8.0) for name, hu in _ATTENUATION_HU.items()}


def draw_organs(rng: np.random.Generator) -> list[Organ]:
    """The organs of one patient: each at its own place (sd ``wander``) and size (sd 10 %)."""
    organs = []
    for organ in ORGANS:
        du, dv, dw = rng.normal(0.0, organ.wander, 3)
        scale = float(np.clip(rng.normal(1.0, 0.10), 0.75, 1.3))
        shapes = tuple(shape.moved((float(du), float(dv), float(dw)), scale) for shape in organ.shapes)
        organs.append(Organ(organ.name, organ.label, shapes, organ.wander))
    return organs


def draw_bowel(rng: np.random.Generator, count: int = 14) -> list[tuple[Ellipsoid, bool]]:
    """Loops of small bowel anywhere in the lower belly, and whether each is filled with gas."""
    loops = []
    for _ in range(count):
        centre = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.0, 0.58)), float(rng.uniform(-1.1, -0.32)))
        radii = (float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.07, 0.14)), float(rng.uniform(0.08, 0.16)))
        loops.append((Ellipsoid(centre, radii, float(rng.uniform(-60, 60))), bool(rng.random() < 0.2)))
    return loops
