"""Axes of the patient: see also the slices of a case, which are tried in all 48 orientations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voco_cli.data.io.image import Scan
from voco_cli.evaluate.patient_case import lies_on_grid_of, on_grid_of, patient_case, value_counts


def scan(array_zyx: np.ndarray, direction: np.ndarray | None = None) -> Scan:
    return Scan(array_zyx, (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), np.eye(3) if direction is None else direction, Path("a"))


def test_an_lps_file_is_turned_in_two_axes() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    case = patient_case(scan(array), None, None)
    assert case.image_xyz.shape == (4, 3, 2)
    assert case.image_xyz[3, 2, 0] == array[0, 0, 0]
    assert case.turned == (True, True, False)
    assert [case.file_index(axis, 0) for axis in range(3)] == [3, 2, 0]
    assert case.extent_mm == (4.0, 6.0, 6.0)
    assert np.shares_memory(case.image_xyz, array)


def test_an_oblique_scan_keeps_its_voxels() -> None:
    angle = np.radians(20)
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    case = patient_case(scan(array, turned), None, None)
    assert np.array_equal(case.image_xyz, patient_case(scan(array), None, None).image_xyz)


def test_rounding_in_a_header_is_no_other_grid() -> None:
    label = scan(np.ones((2, 3, 4), np.uint8))
    image = Scan(np.zeros((2, 3, 4)), (1.0, 2.0, 3.0), (5.001, 6.0, 7.0), np.eye(3), Path("b"))
    assert lies_on_grid_of(label, image)
    assert on_grid_of(label, image) is not None


def test_a_label_of_the_same_place_in_other_axes_is_laid_on_the_image_voxel_for_voxel() -> None:
    label_zyx = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    # The same grid, stored from the other end of x.
    turned = Scan(label_zyx[:, :, ::-1], (1.0, 2.0, 3.0), (8.0, 6.0, 7.0), np.diag([-1.0, 1.0, 1.0]), Path("c"))
    assert np.array_equal(on_grid_of(turned, scan(np.zeros((2, 3, 4)))), label_zyx)


def test_counts_by_slice() -> None:
    label = np.zeros((3, 3, 2), np.uint16)
    label[0, :, 1] = 300
    label[1, 1, 0] = 2
    counts = value_counts(label)
    assert counts.shape == (301, 2)
    assert counts[[0, 2, 300]].tolist() == [[8, 6], [1, 0], [0, 3]]
