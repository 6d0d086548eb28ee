"""The frame of a torso: skin, muscle, cavity, lungs under the ribs, spine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.phantom.shapes import Ellipsoid, FloatArray, Tube, union

Mask = NDArray[np.bool_]

RIB_PERIOD = 0.21
"""Distance of two ribs, and of two vertebrae, along w: 34 mm."""


@dataclass(frozen=True)
class Frame:
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

    def masks(self, body_3XYZ: FloatArray) -> Frame:
        """The frame at the points (u, v, w) of ``body_3XYZ``."""
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
        return Frame(skin, muscle, cavity, lungs, bone & skin, marrow, canal)

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
    """The frame of one patient."""
    return Wall(
        fat=float(rng.uniform(0.05, 0.14)),
        muscle=float(rng.uniform(0.06, 0.09)),
        dome=float(rng.normal(0.52, 0.05)),
        rib_phase=float(rng.uniform()),
        rib_slope=float(rng.uniform(0.3, 0.55)),
    )
