"""The hash sees what a scan shows and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voco_cli.data.io.image import Scan, voxel_hash

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
SCAN = Scan(ARRAY, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), Path("a"))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_number_format_does_not_count(dtype: type) -> None:
    assert voxel_hash(replace(SCAN, array_zyx=ARRAY.astype(dtype))) == voxel_hash(SCAN)


def test_order_of_axes_does_not_count() -> None:
    ras = replace(SCAN, array_zyx=ARRAY[:, ::-1, ::-1], direction=np.diag([-1.0, -1.0, 1.0]))
    assert voxel_hash(ras) == voxel_hash(SCAN)
    # Voxel axes x, y, z of this copy run along the world's y, z, x.
    turned = replace(SCAN, array_zyx=ARRAY.transpose(2, 0, 1), direction=np.eye(3)[:, [1, 2, 0]])
    assert voxel_hash(turned) == voxel_hash(SCAN)


def test_one_voxel_counts() -> None:
    other = ARRAY.copy()
    other[3, 2, 1] += 1
    assert voxel_hash(replace(SCAN, array_zyx=other)) != voxel_hash(SCAN)
    assert voxel_hash(replace(SCAN, array_zyx=ARRAY[:, ::-1])) != voxel_hash(SCAN)
