"""Where a grid lies in the patient: checks and small repairs that every format goes through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import GetPydanticSchema
from pydantic_core import core_schema

from voco_cli.errors import GeometryError

# An axis may turn by this much when it is repaired: two rounded digits of a cosine cost up to 0.3 degrees, a gantry
# tilt worth the name starts at several degrees.
MAX_REPAIR_DEG = 0.5
# Below this the departure is float32 rounding in a header and not worth a note.
ROUNDING_DEG = 0.01
# World positions of two grids that are the same but for rounding, as a share of the smallest voxel edge.
SAME_GRID_SHARE = 0.02

# A kilometre: larger lengths are damage, and their squares may overflow.
MOST_MM = 1e6

AXIS_LETTERS_LPS = (("R", "L"), ("A", "P"), ("I", "S"))


_AS_LISTS = GetPydanticSchema(
    lambda *_: core_schema.no_info_plain_validator_function(
        lambda rows: np.array(rows, np.float64),
        serialization=core_schema.plain_serializer_function_ser_schema(np.ndarray.tolist),
    )
)
"""How a header holds its directions in JSON."""


@dataclass(frozen=True)
class Placement:
    """Spacing, origin and direction of a grid in LPS, with what was repaired to get them.

    Attributes:
        spacing_xyz_mm: distance of voxel centres along x, y, z, mm.
        origin_xyz_mm: centre of voxel (0, 0, 0), LPS, mm.
        direction: 3x3, orthonormal, column i is the direction of voxel axis i.
        notes: repairs, one sentence each.
    """

    spacing_xyz_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]
    direction: Annotated[NDArray[np.float64], _AS_LISTS]
    notes: tuple[str, ...] = ()


def place(axes_mm: NDArray[np.float64], origin_mm: NDArray[np.float64], path: Path) -> Placement:
    """Split the columns of a grid's matrix into spacing and an orthonormal direction.

    Args:
        axes_mm: 3x3, column i is the step of one voxel along axis i in LPS, mm.
        origin_mm: centre of voxel (0, 0, 0), LPS, mm.
        path: named in errors.
    Returns:
        The placement; directions off by at most ``MAX_REPAIR_DEG`` are turned to the nearest orthonormal matrix
        (polar decomposition, which keeps a mirrored grid mirrored) and noted.
    Raises:
        GeometryError: not finite, a spacing that is not positive, or axes that are not at right angles.
    """
    if not (np.isfinite(axes_mm).all() and np.isfinite(origin_mm).all()):
        raise GeometryError(f"{path} has a position or direction that is not a finite number.")
    farthest_mm = max(np.abs(axes_mm).max(), np.abs(origin_mm).max())
    if farthest_mm > MOST_MM:
        raise GeometryError(f"{path} has a spacing or a position of {farthest_mm:g} mm.", "Correct the header.")
    spacing_mm = np.linalg.norm(axes_mm, axis=0)
    for axis, value in zip("xyz", spacing_mm, strict=True):
        if not value > 1e-6:
            raise GeometryError(f"{path} has spacing {value:g} mm on axis {axis}.", "Correct the header.")
    cosines = axes_mm / spacing_mm
    direction, turned_deg = nearest_orthonormal(cosines)
    if turned_deg > MAX_REPAIR_DEG:
        raise GeometryError(
            f"{path} has axes that are not at right angles ({_angles(cosines)} degrees between x-y, x-z, y-z), as a "
            f"gantry tilt or a shear makes them; a repair would turn an axis by {turned_deg:.2f} degrees, "
            f"and only {MAX_REPAIR_DEG:g} are repaired.",
            "Resample the scan to a rectangular grid first (for CT with gantry tilt: dcm2niix does so).",
        )
    notes: tuple[str, ...] = ()
    if turned_deg > ROUNDING_DEG:
        notes = (f"direction cosines were not orthonormal; turned by up to {turned_deg:.3f} degrees to the nearest",)
    return Placement(_triple(spacing_mm), _triple(origin_mm), direction, notes)


def unit_notes(mm_per_unit: float) -> list[str]:
    """Return the note on lengths of another unit than millimetres; none where they are in millimetres."""
    return [f"lengths were converted to millimetres (factor {mm_per_unit:g})"] if mm_per_unit != 1.0 else []


def nearest_orthonormal(cosines: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the closest orthonormal matrix (Frobenius norm), and the largest angle by which a column turns, degrees.

    Args:
        cosines: 3x3, columns of unit length.
    Source: polar decomposition; Higham, "Computing the polar decomposition", SIAM J. Sci. Stat. Comput. 7 (1986).
    """
    left, singular, right = np.linalg.svd(cosines)
    if singular[-1] < 1e-6:
        return np.eye(3), 90.0
    nearest = left @ right
    # The chord keeps small angles exact, where the arc cosine of a number close to 1 does not.
    chords = np.linalg.norm(nearest - cosines, axis=0)
    return nearest, float(np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1))).max())


def axis_codes(direction: NDArray[np.float64]) -> str:
    """Return the direction in which each voxel axis grows, as ``RAS`` or ``LPS`` (the letter nearest to each)."""
    remaining = np.abs(direction).copy()
    codes = ["", "", ""]
    # Strongest first, so that oblique grids never name one world axis twice.
    for _ in range(3):
        world, voxel = np.unravel_index(int(remaining.argmax()), (3, 3))
        codes[voxel] = AXIS_LETTERS_LPS[world][int(direction[world, voxel] > 0)]
        remaining[world, :] = -1
        remaining[:, voxel] = -1
    return "".join(codes)


def grid_shift_mm(first: Placement, second: Placement, shape_xyz: tuple[int, int, int]) -> float:
    """Return the largest distance between the same voxel of two grids of this shape, mm (reached at a corner)."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape_xyz])).reshape(3, -1)
    return float(np.linalg.norm(_world(first, corners) - _world(second, corners), axis=0).max())


def same_grid(first: Placement, second: Placement, shape_xyz: tuple[int, int, int]) -> bool:
    """Return whether two placements agree to ``SAME_GRID_SHARE`` of the smallest voxel edge at every corner."""
    return grid_shift_mm(first, second, shape_xyz) <= SAME_GRID_SHARE * min(first.spacing_xyz_mm)


@dataclass(frozen=True)
class StorageOrder:
    """How the voxels of one grid are put into the order in which another stores the same places.

    Attributes:
        axes: the grid's own axis (0 is x) along each axis of the other.
        flipped: whether it runs against it.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @property
    def is_same(self) -> bool:
        """Return whether nothing is to be done."""
        return self.axes == (0, 1, 2) and not any(self.flipped)

    def array_zyx(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the array in the other's order; nothing is resampled."""
        array_xyz = array_zyx.transpose(2, 1, 0).transpose(self.axes)
        turned = array_xyz[tuple(slice(None, None, -1 if against else 1) for against in self.flipped)]
        return turned.transpose(2, 1, 0)


def storage_order(
    grid: Placement, shape_xyz: tuple[int, int, int], like: Placement, like_shape_xyz: tuple[int, int, int]
) -> StorageOrder | None:
    """Return how a grid's voxels are reordered to be those of another; none where they are not the same places.

    Any flip and exchange of axes will do, by the direction matrices; places agree as in `same_grid`.
    """
    along = like.direction.T @ grid.direction
    axes = np.abs(along).argmax(axis=1)
    x, y, z = (int(axis) for axis in axes)
    if {x, y, z} != {0, 1, 2} or (shape_xyz[x], shape_xyz[y], shape_xyz[z]) != like_shape_xyz:
        return None
    signs = np.sign(along[range(3), axes])
    steps_mm = grid.direction * np.array(grid.spacing_xyz_mm)
    last = (np.array(like_shape_xyz) - 1) * (signs < 0)
    origin_mm = np.array(grid.origin_xyz_mm) + steps_mm[:, axes] @ last
    spacing = np.array(grid.spacing_xyz_mm)[axes]
    reordered = Placement(_triple(spacing), _triple(origin_mm), grid.direction[:, axes] * signs)
    if not same_grid(reordered, like, like_shape_xyz):
        return None
    return StorageOrder((x, y, z), (bool(signs[0] < 0), bool(signs[1] < 0), bool(signs[2] < 0)))


def _world(placement: Placement, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    axes = placement.direction * np.array(placement.spacing_xyz_mm)
    return np.asarray(axes @ voxels + np.array(placement.origin_xyz_mm)[:, None])


def _angles(cosines: NDArray[np.float64]) -> str:
    products = np.clip([cosines[:, i] @ cosines[:, j] for i, j in ((0, 1), (0, 2), (1, 2))], -1, 1)
    return ", ".join(f"{angle:.1f}" for angle in np.degrees(np.arccos(products)))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
