"""Smooth implicit shapes in normalised body coordinates, from which a torso is put together.

Body coordinates run over [-1, 1] along the axes of a RAS volume: u to the patient's right, v to the front, w to the
head; one unit is half a side of the field of view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]
FloatArray = NDArray[np.float32]


class Shape(Protocol):
    """A closed surface that can be tested and moved."""

    def inside(self, body_3XYZ: FloatArray) -> NDArray[np.bool_]:
        """Which points (u, v, w) lie inside."""

    def moved(self, shift: Triple, scale: float) -> Self:
        """The shape moved by ``shift`` body units and grown by ``scale``."""


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

    def inside(self, body_3XYZ: FloatArray) -> NDArray[np.bool_]:
        """Which points lie inside."""
        u, v, w = (body_3XYZ[axis] - np.float32(self.centre[axis]) for axis in range(3))
        if self.turn_deg:
            cos, sin = np.float32(np.cos(np.radians(self.turn_deg))), np.float32(np.sin(np.radians(self.turn_deg)))
            u, v = cos * u + sin * v, cos * v - sin * u
        a, b, c = (np.float32(1 / radius) for radius in self.radii)
        return np.asarray((u * a) ** 2 + (v * b) ** 2 + (w * c) ** 2 < 1)

    def moved(self, shift: Triple, scale: float) -> Self:
        """The ellipsoid moved by ``shift`` and grown by ``scale``."""
        radii = (self.radii[0] * scale, self.radii[1] * scale, self.radii[2] * scale)
        return replace(self, centre=_added(self.centre, shift), radii=radii)


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

    def inside(self, body_3XYZ: FloatArray) -> NDArray[np.bool_]:
        """Which points lie inside."""
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
        """The tube moved by ``shift``; ``scale`` grows its radius and leaves its course."""
        others = [shift[axis] for axis in range(3) if axis != self.axis]
        knots = tuple(
            (place + shift[self.axis], first + others[0], second + others[1], radius * scale)
            for place, first, second, radius in self.knots
        )
        return replace(self, knots=knots)


def union(shapes: Sequence[Shape], body_3XYZ: FloatArray) -> NDArray[np.bool_]:
    """Which points lie in any of the shapes."""
    inside = shapes[0].inside(body_3XYZ)
    for shape in shapes[1:]:
        inside |= shape.inside(body_3XYZ)
    return inside


def _added(first: Triple, second: Triple) -> Triple:
    return (first[0] + second[0], first[1] + second[1], first[2] + second[2])
