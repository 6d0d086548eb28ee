"""Slices of a case: every voxel of a hand-made scan at the pixel where a reader looks for it."""

from __future__ import annotations

import io
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from PIL import Image

from voco_cli.data.io.image import Scan
from voco_cli.errors import DataError, GeometryError
from voco_cli.figures.slices import (
    SIDES,
    STRUCTURE_COLOURS,
    ShownStructure,
    draw_case_slices,
    outlined,
    shown_structures,
)

RAS_IN_LPS = np.diag([-1.0, -1.0, 1.0])
WINDOW = (0.0, 255.0)
ONE = shown_structures([("one", (1,))])


def ras_scan(array_xyz: NDArray[np.generic], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Scan:
    """A scan whose axes grow to the right, the front and the head."""
    return Scan(array_xyz.transpose(2, 1, 0), spacing_mm, (0.0, 0.0, 0.0), RAS_IN_LPS, Path("case.nii.gz"))


def stored_as(scan: Scan, codes: str) -> Scan:
    """The same patient, voxel for voxel, in a file whose axes grow as ``codes`` says; nibabel does the turning."""
    turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(tuple(codes)))
    array_xyz = scan.array_zyx.transpose(2, 1, 0)
    axes = np.empty(3, int)
    axes[turn[:, 0].astype(int)] = np.arange(3)  # new axis to old
    turned_xyz = array_xyz.transpose(axes)
    origin = np.asarray(scan.origin_xyz_mm)
    direction, spacing = scan.direction[:, axes].copy(), np.asarray(scan.spacing_xyz_mm)[axes]
    for new, old in enumerate(axes):
        if turn[old, 1] < 0:
            turned_xyz = np.flip(turned_xyz, new)
            origin = origin + direction[:, new] * spacing[new] * (turned_xyz.shape[new] - 1)
            direction[:, new] *= -1
    return Scan(turned_xyz.transpose(2, 1, 0), tuple(spacing), tuple(origin), direction, scan.path)


def pixels(picture: bytes | None) -> NDArray[np.uint8]:
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(picture)))


def alpha(picture: bytes | None) -> NDArray[np.bool_]:
    return pixels(picture)[..., 3] > 0


CODES = ["".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]


@pytest.mark.parametrize("codes", CODES)
def test_right_is_left_and_front_is_top_whatever_the_orientation_of_the_file(codes: str) -> None:
    # 8 x 6 x 3 voxels; the label marks the voxel farthest right, front and up; the bright block lies left, back, down.
    label_xyz = np.zeros((8, 6, 3), np.uint8)
    label_xyz[7, 5, 2] = 1
    image_xyz = np.zeros((8, 6, 3), np.int16)
    image_xyz[:4, :3, 0] = 255
    image, label = (stored_as(ras_scan(array), codes) for array in (image_xyz, label_xyz))
    drawn = draw_case_slices(image, label, None, ONE, WINDOW, longest_px=80)
    assert (drawn.width_px, drawn.height_px) == (80, 60)
    low, _, high = drawn.slices  # from the feet to the head
    expected = np.zeros((60, 80), bool)
    expected[:10, :10] = True  # the upper left corner, 10 pixels a voxel
    assert (SIDES[0], SIDES[2]) == ("R", "A")  # as the letters of the edges that meet there
    assert np.array_equal(alpha(high.label), expected)
    assert not alpha(low.label).any()
    grey = pixels(low.image).mean(axis=2)
    assert grey[35:55, 45:75].min() > 200  # the lower right quarter, away from its soft edges
    assert grey[:25].max() < 55
    assert grey[:, :35].max() < 55
    assert low.prediction is None
    # The file's own number of the slice at the head.
    axis = next(i for i, code in enumerate(codes) if code in "SI")
    assert high.index == (2 if codes[axis] == "S" else 0)


def test_pixels_are_square_where_voxels_are_not() -> None:
    # 10 voxels of 0.5 mm along x and 4 of 5 mm along y: 5 mm wide and 20 mm high.
    label_xyz = np.zeros((10, 4, 2), np.uint8)
    label_xyz[0, 0, 0] = 1  # left and back: the lower right corner, 0.5 mm wide and 5 mm high
    image = ras_scan(np.zeros((10, 4, 2), np.int16), (0.5, 5.0, 2.0))
    label = ras_scan(label_xyz, (0.5, 5.0, 2.0))
    drawn = draw_case_slices(image, label, None, ONE, WINDOW, longest_px=80)
    assert (drawn.width_px, drawn.height_px) == (20, 80)
    rows, columns = np.nonzero(alpha(drawn.slices[0].label))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (60, 79, 18, 19)


def test_label_is_filled_and_prediction_outlined_in_the_colour_of_the_structure() -> None:
    label_xyz = np.zeros((8, 8, 2), np.uint8)
    label_xyz[2:6, 2:6] = 3
    other_xyz = np.full((8, 8, 2), 9, np.uint8)  # of no structure
    other_xyz[1:7, 1:7] = 3
    structures = (ShownStructure("liver", (2, 3), "#102030"),)
    image = ras_scan(np.zeros((8, 8, 2), np.int16))
    drawn = draw_case_slices(image, ras_scan(label_xyz), ras_scan(other_xyz), structures, WINDOW, longest_px=80)
    one = drawn.slices[0]
    inside = np.zeros((80, 80), bool)
    inside[20:60, 20:60] = True
    assert np.array_equal(alpha(one.label), inside)
    assert np.unique(pixels(one.label)[inside], axis=0).tolist() == [[0x10, 0x20, 0x30, 110]]
    ring = np.zeros((80, 80), bool)
    ring[10:70, 10:70] = True
    ring[12:68, 12:68] = False  # two pixels wide
    assert np.array_equal(alpha(one.prediction), ring)
    assert np.unique(pixels(one.prediction)[ring], axis=0).tolist() == [[0x10, 0x20, 0x30, 255]]


def test_edge_of_the_picture_is_no_border() -> None:
    label_hw = np.zeros((6, 6), np.uint8)
    label_hw[:, :4] = 1
    shown = outlined(label_hw, ONE, width_px=1)[..., 3] > 0
    assert np.argwhere(shown).tolist() == [[row, 3] for row in range(6)]


def test_window_is_black_to_white_and_no_number_is_black() -> None:
    image_xyz = np.full((4, 4, 2), 50.0, np.float32)
    image_xyz[..., 1] = np.nan
    low, high = draw_case_slices(ras_scan(image_xyz), None, None, ONE, (0.0, 100.0), longest_px=16).slices
    assert np.abs(pixels(low.image).astype(int) - 128).max() <= 2  # 127.5, and what the compression does to it
    assert pixels(high.image).max() <= 2


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([], [0, 10, 19, 28, 38]),  # nothing labelled: evenly over 39 slices
        ([20], [18, 19, 20, 21, 22]),  # room for two more on either side
        ([0], [0, 1, 2, 3, 4]),  # at the end of the scan
        ([38], [34, 35, 36, 37, 38]),
        (list(range(4, 24)), [4, 9, 14, 18, 23]),  # evenly over 20 slices
    ],
)
def test_slices_cover_what_is_labelled(held: list[int], expected: list[int]) -> None:
    label_xyz = np.zeros((4, 4, 39), np.uint8)
    label_xyz[1, 1, held] = 1
    image = ras_scan(np.zeros((4, 4, 39), np.int16))
    drawn = draw_case_slices(image, ras_scan(label_xyz), None, ONE, WINDOW, most_slices=5, longest_px=8)
    assert [one.index for one in drawn.slices] == expected


def test_structure_between_the_chosen_slices_is_not_missed() -> None:
    label_xyz = np.zeros((4, 4, 39), np.uint8)
    label_xyz[1, 1, 4:24] = 1
    prediction_xyz = np.zeros_like(label_xyz)
    prediction_xyz[2, 2, 11] = 2
    prediction_xyz[2, 2:4, 12] = 2
    image, label, prediction = map(ras_scan, (np.zeros((4, 4, 39), np.int16), label_xyz, prediction_xyz))
    structures = shown_structures([("one", (1,)), ("two", (2,))])
    drawn = draw_case_slices(image, label, prediction, structures, WINDOW, most_slices=5, longest_px=8)
    assert [one.index for one in drawn.slices] == [4, 9, 12, 18, 23]


def test_few_slices_are_all_shown() -> None:
    drawn = draw_case_slices(ras_scan(np.zeros((4, 4, 3), np.int16)), None, None, ONE, WINDOW, most_slices=32)
    assert [one.index for one in drawn.slices] == [0, 1, 2]


def test_label_on_another_grid_is_laid_on_the_image_by_its_header() -> None:
    # Twice as coarse along x and y, over the right half of the image: voxel centres at 4.5 mm and 6.5 mm along R.
    label = Scan(np.ones((2, 4, 2), np.uint8), (2.0, 2.0, 1.0), (-4.5, -0.5, 0.0), RAS_IN_LPS, Path("coarse.nii.gz"))
    image = ras_scan(np.zeros((8, 8, 2), np.int16))
    drawn = draw_case_slices(image, label, None, ONE, WINDOW, longest_px=80)
    expected = np.zeros((80, 80), bool)
    expected[:, :40] = True
    assert np.array_equal(alpha(drawn.slices[0].label), expected)


def test_label_of_another_place_is_refused() -> None:
    label = Scan(np.ones((2, 8, 8), np.uint8), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0), RAS_IN_LPS, Path("far.nii.gz"))
    with pytest.raises(GeometryError, match=r"No structure of far.nii.gz lies inside case.nii.gz"):
        draw_case_slices(ras_scan(np.zeros((8, 8, 2), np.int16)), label, None, ONE, WINDOW)


def test_label_that_is_an_image_is_refused() -> None:
    image = ras_scan(np.full((4, 4, 2), -1000, np.int16))
    with pytest.raises(DataError, match=r"case.nii.gz holds values from -1000 to -1000, and labels are whole numbers"):
        draw_case_slices(image, image, None, ONE, WINDOW)


def test_twenty_structures_have_twenty_colours_also_for_the_colour_blind() -> None:
    assert [one.colour for one in shown_structures([(str(n), (n,)) for n in range(1, 22)])][20] == STRUCTURE_COLOURS[0]
    linear = np.array([list(bytes.fromhex(colour[1:])) for colour in STRUCTURE_COLOURS]) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    # Red-blind and green-blind sight, Machado et al. (2009), severity 1.
    for blindness in (
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ):
        lab = _cielab(np.clip(linear @ np.transpose(blindness), 0, 1))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(20, 1)]
        assert apart.min() > 14  # about six times what is just noticeable


def _cielab(linear_rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    x, y, z = np.cbrt(np.maximum(linear_rgb @ to_xyz.T / (0.95047, 1.0, 1.08883), (6 / 29) ** 3)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
