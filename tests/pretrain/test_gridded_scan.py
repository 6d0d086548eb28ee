"""Where the grid lies in a scan that is larger than it, and which crops are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pretrain.tiny_run import TINY, write_data
from voco_cli.config import load_settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import GeometryError, UsageError
from voco_cli.pretrain.inference import grid_scan

SMALL = load_settings("debug", None, (*TINY, "crops.size=12x12x12", "crops.input_size=24x24x24"), {}).settings
"""A grid of 24 x 24 x 12 voxels in a volume of 48 x 48 x 24."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    data = write_data(tmp_path_factory.mktemp("data"), 1, 0)
    return read_scan(read_datalist(data).training[0].image)


@pytest.mark.parametrize(
    ("centres", "start"),
    [
        ([], [12, 12, 6]),  # the middle
        ([(24, 24, 12)], [12, 12, 6]),
        ([(6, 24)], [0, 12, 6]),  # the crop [0, 12) needs the grid at the edge
        ([(42, 20, 18)], [24, 12, 12]),
        ([(20, 8), (30, 20)], [12, 2, 6]),
    ],
)
def test_the_grid_lies_in_the_middle_or_as_near_as_the_crops_allow(
    scan: Scan, centres: list[tuple[int, ...]], start: list[int]
) -> None:
    found = grid_scan(scan, SMALL, centres, 3)
    assert found.draws.region_start_3.tolist() == start
    assert found.base_starts.tolist() == [
        [start[0] + x, start[1] + y, start[2]] for x, y in ((0, 0), (0, 12), (12, 0), (12, 12))
    ]
    for centre, begin in zip(centres, found.random_starts.tolist(), strict=False):
        assert begin[:2] == [centre[0] - 6, centre[1] - 6]
    assert len(found.random_SXYZ) == (len(centres) or 3)
    np.testing.assert_allclose(found.draws.labels_SK.sum(1), 1)


def test_crops_are_cut_where_they_lie(scan: Scan) -> None:
    found = grid_scan(scan, SMALL, [(20, 8, 12)])
    stored = np.rint(preprocess(scan, SMALL.preprocess).array_xyz * 255).astype(np.uint8)
    np.testing.assert_array_equal(found.random_SXYZ[0], stored[14:26, 2:14, 6:18])
    np.testing.assert_array_equal(found.bases_KXYZ[1], stored[12:24, 14:26, 6:18])


@pytest.mark.parametrize(
    ("centres", "sentence", "hint"),
    [
        ([(5, 24)], "12 voxels along x around 5,24 reaches outside .* 48x48x24", "choose x between 6 and 42"),
        ([(24, 43)], "along y around 24,43 reaches outside", "choose y between 6 and 42"),
        ([(24, 24, 19)], "along z around 24,24,19 reaches outside", "choose z between 6 and 18"),
        ([(6, 24), (31, 24)], "further apart than the grid of the run, 24x24x12 voxels", "in several calls"),
    ],
)
def test_crops_that_cannot_be_are_refused(scan: Scan, centres: list[tuple[int, ...]], sentence: str, hint: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        grid_scan(scan, SMALL, centres)
    assert hint in (caught.value.hint or "")


def test_a_scan_smaller_than_the_grid_is_refused(scan: Scan) -> None:
    large = load_settings("debug", None, (*TINY, "preprocess.resize_vox=null", "crops.size=48x48x24"), {}).settings
    with pytest.raises(GeometryError, match=r"voxels after preprocessing, and the grid of the run needs 96x96x24"):
        grid_scan(scan, large)


def test_a_folder_that_is_no_file_name_is_no_matter(scan: Scan, tmp_path: Path) -> None:
    named = Scan(scan.array_zyx, scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction, tmp_path)
    assert grid_scan(named, SMALL).name == tmp_path.name
