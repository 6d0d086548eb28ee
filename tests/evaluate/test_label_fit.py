"""Fit of label maps against jumps counted by hand, and on generated CTs turned over in every way."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from voco_cli.data.synthetic.generate import generate_ct
from voco_cli.evaluate.label_fit import LabelFit, Turn, label_fit

FLIPS = [flips for flips in product((False, True), repeat=3) if any(flips)]
UNIT_MM = (1.0, 1.0, 1.0)


def flipped(array_xyz: NDArray[np.generic], flips: tuple[bool, ...]) -> NDArray[np.generic]:
    return array_xyz[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def block() -> NDArray[np.uint8]:
    """A box away from the middle of a grid that is not square."""
    label_xyz = np.zeros((40, 36, 44), np.uint8)
    label_xyz[4:14, 6:16, 26:38] = 3
    return label_xyz


def fit_of(image_xyz: NDArray[np.generic], label_xyz: NDArray[np.generic]) -> LabelFit:
    fit = label_fit(image_xyz, label_xyz, UNIT_MM)
    assert fit is not None
    return fit


def test_jump_is_whole_across_the_borders_of_a_block_and_none_where_there_is_no_block() -> None:
    label_xyz = block()
    fit = fit_of(np.where(label_xyz > 0, 100, -20), label_xyz)
    assert [str(one.turn) for one in fit.fits[:4]] == [
        "as it lies",
        "flipped head-feet",
        "flipped front-back",
        "flipped front-back and head-feet",
    ]
    assert len(fit.fits) == 8
    assert [one.jump for one in fit.fits] == [1.0] + [0.0] * 7
    assert fit.better is None
    assert not fit.astray


def test_mean_jump_is_that_of_a_loop_over_all_neighbours() -> None:
    rng = np.random.default_rng(0)
    image_xyz = rng.normal(size=(20, 22, 24)).astype(np.float32)
    label_xyz = np.zeros(image_xyz.shape, np.uint8)
    label_xyz[6:12, 7:12, 8:14] = 1
    label_xyz[12:14, 7:12, 8:14] = 2
    pairs = [
        (here, there)
        for here in np.ndindex(*label_xyz.shape)
        for axis in range(3)
        if (there := tuple(n + (i == axis) for i, n in enumerate(here)))[axis] < label_xyz.shape[axis]
        and label_xyz[here] != label_xyz[there]
    ]
    # Sides of the box of 8 x 5 x 6, and the 5 x 6 between the two labels.
    assert len(pairs) == 2 * (8 * 5 + 8 * 6 + 5 * 6) + 30
    turned = [flipped(image_xyz, flips) for flips in product((False, True), repeat=3)]
    low, high = np.percentile([one[here] for one in turned for here, _ in pairs], (5, 95))
    fit = fit_of(image_xyz, label_xyz)
    for one, image in zip(fit.fits, turned, strict=True):  # turning the label over is turning the image over
        clipped = np.clip(image, low, high)
        jumps = [abs(clipped[here] - clipped[there]) for here, there in pairs]
        assert one.jump == pytest.approx(np.mean(jumps) / (high - low), rel=1e-5)


@pytest.mark.parametrize("flips", FLIPS)
def test_the_flip_that_mends_a_label_is_found(flips: tuple[bool, bool, bool]) -> None:
    label_xyz = block()
    fit = fit_of(np.where(label_xyz > 0, 100, 0), flipped(label_xyz, flips))
    assert fit.better is not None
    assert fit.better.turn == Turn(flipped=flips)
    assert (fit.as_is.jump, fit.better.jump) == (0.0, 1.0)


def test_exchanged_axes_are_found_where_the_grid_is_square() -> None:
    label_xyz = np.zeros((40, 40, 30), np.uint8)
    label_xyz[4:14, 22:34, 10:20] = 1
    image_xyz = np.where(label_xyz > 0, 100, 0)
    exchanged = label_xyz.transpose(1, 0, 2)
    fit = fit_of(image_xyz, exchanged)
    assert len(fit.fits) == 16
    assert fit.better is not None
    assert fit.better.turn == Turn(exchanged=True)
    turned = fit_of(image_xyz, exchanged[:, ::-1])  # the stored one was flipped, too: x after the exchange
    assert turned.better is not None
    assert str(turned.better.turn) == "x and y exchanged, flipped left-right"
    assert fit_of(image_xyz[:, :39], label_xyz[:, :39]).fits[-1].turn == Turn(flipped=(True, True, True))


def test_what_looks_the_same_flipped_is_no_finding() -> None:
    label_xyz = np.zeros((40, 36, 44), np.uint8)
    label_xyz[15:25, 13:23, 16:28] = 1  # in the middle of every axis
    fit = fit_of(np.where(label_xyz > 0, 100, 0), label_xyz)
    assert [one.jump for one in fit.fits] == [1.0] * 8
    assert fit.better is None


def test_a_label_on_noise_is_astray_and_no_flip_mends_it() -> None:
    image_xyz = np.random.default_rng(1).normal(size=(40, 36, 44))
    fit = fit_of(image_xyz, block())
    assert fit.better is None
    assert fit.astray


def test_voxels_that_are_no_numbers_count_as_the_lowest() -> None:
    label_xyz = block()
    image_xyz = np.where(label_xyz > 0, 100.0, np.nan)
    image_xyz[:, :, :20] = 0
    fit = fit_of(image_xyz, label_xyz)
    assert fit.as_is.jump == 1.0


@pytest.mark.parametrize("case", ["empty", "few voxels", "no contrast", "fills the grid"])
def test_nothing_is_concluded_from_nothing(case: str) -> None:
    label_xyz = block()
    image_xyz = np.where(label_xyz > 0, 100, 0)
    if case == "empty":
        label_xyz = np.zeros_like(label_xyz)
    elif case == "few voxels":
        label_xyz = np.zeros_like(label_xyz)
        label_xyz[5:8, 7:10, 27:30] = 1  # 54 sides
    elif case == "no contrast":
        image_xyz = np.zeros_like(image_xyz)
    else:
        image_xyz, label_xyz = image_xyz[4:14, 6:16, 26:38], np.ones((10, 10, 12), np.uint8)
        label_xyz[5:] = 2
    assert label_fit(image_xyz, label_xyz, UNIT_MM) is None


def test_no_false_alarm_on_twenty_patients() -> None:
    for seed in range(20):
        patient = generate_ct(seed, (64, 56, 24))
        fit = label_fit(patient.image_hu_xyz, patient.labels_xyz, patient.spacing_mm)
        assert fit is not None
        assert fit.better is None
        assert not fit.astray
        assert fit.as_is.above_sd > 3.5


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, False), (False, False, True)])
def test_flips_of_patients_are_found(flips: tuple[bool, bool, bool]) -> None:
    for seed in range(6):
        patient = generate_ct(seed, (64, 56, 24))
        fit = label_fit(patient.image_hu_xyz, flipped(patient.labels_xyz, flips), patient.spacing_mm)
        assert fit is not None
        assert fit.better is not None
        assert fit.better.turn == Turn(flipped=flips)


@pytest.mark.slow
@pytest.mark.parametrize("flips", FLIPS)
def test_every_flip_of_twenty_patients_is_found(flips: tuple[bool, bool, bool]) -> None:
    for seed in range(20):
        patient = generate_ct(seed)
        fit = label_fit(patient.image_hu_xyz, flipped(patient.labels_xyz, flips), patient.spacing_mm)
        assert fit is not None
        assert fit.better is not None
        assert fit.better.turn == Turn(flipped=flips)


def test_label_of_another_patient_is_astray() -> None:
    patients = [generate_ct(seed, (64, 56, 24)) for seed in range(5)]
    astray = 0
    for patient, other in pairwise(patients):
        fit = label_fit(patient.image_hu_xyz, other.labels_xyz, patient.spacing_mm)
        assert fit is not None
        astray += fit.astray
    assert astray == 4
