"""Area of the piece of surface that passes through the eight voxels around a corner of the voxel grid.

The neighbour code of a corner is one byte: bit ``4 dz + 2 dy + dx`` says whether the voxel at offset (dz, dy, dx) is
inside. Marching cubes draws triangles for each of the 256 codes; up to rotation, mirroring and swapping inside with
outside there are only the thirteen below, so the table is made from those.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

INSIDE = 255
EIGHTHS = 8.0
MOST_TRIANGLES = 4

# The voxels inside, each as its bit's offset (z, y, x) in base 2, and for every triangle the area of its projection
# on the planes normal to z, y and x, in eighths of a voxel face. The choice among the triangulations that marching
# cubes leaves open is that of DeepMind's surface-distance, so that areas agree with it for any spacing.
_CASES: tuple[tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]], ...] = (
    ((0b000,), ((1, 1, 1),)),
    ((0b000, 0b001), ((2, 2, 0), (2, 2, 0))),
    ((0b001, 0b010), ((1, 1, 1), (1, 1, 1))),
    ((0b011, 0b100), ((1, 1, 1), (1, 1, 1))),
    ((0b000, 0b001, 0b010), ((1, 1, 1), (2, 2, 2), (4, 0, 0))),
    ((0b001, 0b010, 0b100), ((1, 1, 1), (1, 1, 1), (1, 1, 1))),
    ((0b000, 0b011, 0b100), ((0, 2, 2), (0, 2, 2), (1, 1, 1))),
    ((0b000, 0b001, 0b010, 0b011), ((4, 0, 0), (4, 0, 0))),
    ((0b000, 0b001, 0b010, 0b100), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2))),
    ((0b000, 0b001, 0b011, 0b100), ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3))),
    ((0b001, 0b010, 0b011, 0b100), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0))),
    ((0b010, 0b011, 0b100, 0b101), ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0))),
    ((0b000, 0b011, 0b101, 0b110), ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))),
)


def surfel_areas(spacing_zyx_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Area of the surface through a corner for each neighbour code, mm².

    Args:
        spacing_zyx_mm: distance of voxel centres along z, y, x, mm.
    Returns:
        256 areas; those of codes 0 (all outside) and 255 (all inside) are 0.
    Source: Lorensen and Cline, "Marching cubes", SIGGRAPH 1987; areas per code as in Nikolov et al., "Clinically
        applicable segmentation of head and neck anatomy for radiotherapy", JMIR 23(7), 2021, and its code.
    """
    z, y, x = spacing_zyx_mm
    projections_CT3 = _projections() / EIGHTHS * np.array([y * x, z * x, z * y])
    return np.asarray(np.sqrt((projections_CT3**2).sum(axis=2)).sum(axis=1))


@cache
def _projections() -> NDArray[np.float64]:
    """Projected triangle areas of all codes, from the thirteen cases by symmetry: shape (codes, triangles, axes)."""
    table = np.zeros((INSIDE + 1, MOST_TRIANGLES, 3))
    for offsets, triangles in _CASES:
        corners = [(offset >> 2 & 1, offset >> 1 & 1, offset & 1) for offset in offsets]
        for axes, mirrored in product(permutations(range(3)), product((0, 1), repeat=3)):
            code = 0
            for corner in corners:
                z, y, x = (corner[axis] ^ flip for axis, flip in zip(axes, mirrored, strict=True))
                code |= 1 << (4 * z + 2 * y + x)
            turned = np.array(triangles)[:, axes]
            table[code, : len(turned)] = table[INSIDE - code, : len(turned)] = turned
    return table
