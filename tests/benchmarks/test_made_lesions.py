"""Lesions that no painter painted: their volume, what they leave alone, and that they share nothing with it."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import made_lesions
from benchmarks.made_lesions import RADIUS_MM, add_lesions

SPACING_MM = (2.0, 2.0, 3.0)
SHAPE = (70, 70, 50)


def flat_organ() -> tuple[np.ndarray, np.ndarray]:
    """An organ of 100 HU with little noise, 116 x 116 x 126 mm, in fat."""
    organ = np.zeros(SHAPE, bool)
    organ[6:64, 6:64, 4:46] = True
    noise = np.random.default_rng(0).normal(0, 3, SHAPE)
    return np.rint(np.where(organ, 100 + noise, -100)).astype(np.int16), organ


@pytest.mark.parametrize("seed", range(6))
def test_a_lesion_has_the_volume_that_was_drawn_and_is_darker(seed: int) -> None:
    image, organ = flat_organ()
    found = add_lesions(image, organ, SPACING_MM, 1, np.random.default_rng(seed))
    (radius_mm,) = found.radii_mm
    assert RADIUS_MM[0] <= radius_mm <= RADIUS_MM[1]
    voxels = 4 / 3 * math.pi * radius_mm**3 / 12
    assert 0.6 * voxels <= found.mask_xyz.sum() <= voxels + 1  # what would lie outside the organ is cut off
    assert not (found.mask_xyz & ~organ).any()
    assert 20 < 100 - found.image_hu_xyz[found.mask_xyz].mean() < 110
    assert (found.image_hu_xyz[~organ] == image[~organ]).all()


def test_lesions_lie_beside_each_other_and_the_same_seed_makes_the_same() -> None:
    image, organ = flat_organ()
    first = add_lesions(image, organ, SPACING_MM, 4, np.random.default_rng(5))
    again = add_lesions(image, organ, SPACING_MM, 4, np.random.default_rng(5))
    assert len(first.radii_mm) == 4
    assert (first.image_hu_xyz == again.image_hu_xyz).all()
    assert (first.mask_xyz == again.mask_xyz).all()


def test_an_organ_without_room_stays_healthy() -> None:
    image, organ = flat_organ()
    organ[7:] = False  # a sheet of one voxel, 2 mm, of which no voxel is 3 mm from what lies outside
    found = add_lesions(image, organ, SPACING_MM, 3, np.random.default_rng(0))
    assert found.radii_mm == ()
    assert not found.mask_xyz.any()
    assert (found.image_hu_xyz == image).all()


def test_nothing_is_taken_from_the_painter() -> None:
    tree = ast.parse(Path(made_lesions.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name and name.startswith("voco_cli")} == {"voco_cli.data.synthetic.anatomy"}
