"""Fit of label maps against jumps counted by hand and on CTs turned over in every way, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voco_cli.data.io.image import Scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import generate_ct
from voco_cli.evaluate.label_check import LabelCheck, LabelFit, Turn, check_label, label_fit

NAMES = {name: (value,) for value, name in BTCV_ORGANS.items()}


@pytest.fixture(scope="module")
def image() -> Scan:
    return generate_ct(3, (64, 56, 24)).scan(Path("ct.nii.gz"))


@pytest.fixture(scope="module")
def label(image: Scan) -> Scan:
    return replace(image, array_zyx=generate_ct(3, (64, 56, 24)).labels_xyz.transpose(2, 1, 0), path=Path("l.nii.gz"))


def kinds(check: LabelCheck) -> list[str]:
    return [finding.kind for finding in check.findings]


def test_a_label_in_its_place_is_no_finding(image: Scan, label: Scan) -> None:
    check = check_label(image, label, NAMES)
    assert check.findings == ()
    assert check.fit is not None
    assert check.fit.as_is.above_sd > 3.5


def test_a_label_stored_along_other_axes_is_in_its_place(image: Scan, label: Scan) -> None:
    last_mm = label.direction[:, 0] * label.spacing_xyz_mm[0] * (label.shape_xyz[0] - 1)
    stored = replace(
        label,
        array_zyx=label.array_zyx[:, :, ::-1],
        direction=label.direction * [-1, 1, 1],
        origin_xyz_mm=tuple(np.array(label.origin_xyz_mm) + last_mm),
    )
    assert check_label(image, stored, NAMES).findings == ()
    # A header that says so of voxels that were not turned is a finding, as before.
    wrong = replace(stored, array_zyx=label.array_zyx)
    assert kinds(check_label(image, wrong, NAMES))[0] == "header"


@pytest.mark.parametrize(("axis", "words"), [(0, "head-feet"), (1, "front-back"), (2, "left-right")])
def test_a_flipped_label_is_told_with_both_figures(image: Scan, label: Scan, axis: int, words: str) -> None:
    turned = replace(label, array_zyx=np.flip(label.array_zyx, axis))
    check = check_label(image, turned, NAMES)
    assert kinds(check) == ["fit", "sides"]
    assert check.fit is not None
    assert check.fit.better is not None
    figures = [f"{100 * one.jump:.0f} %" for one in (check.fit.as_is, check.fit.better)]
    fit, sides = (finding.sentence for finding in check.findings)
    assert fit.startswith(
        f"The label map seems flipped {words}: across its borders the image changes by {figures[0]} of its range as it "
        f"lies ("
    )
    assert f", and by {figures[1]} (+" in fit
    assert fit.endswith(f") if flipped {words}.")
    assert f"seems mirrored {words}: " in sides
    assert "it fits the image" not in sides


def test_image_and_label_that_are_both_mirrored_are_told_by_names(image: Scan, label: Scan) -> None:
    both = [replace(one, array_zyx=one.array_zyx[:, :, ::-1]) for one in (image, label)]
    check = check_label(both[0], both[1], NAMES)
    assert kinds(check) == ["sides"]
    sentence = check.findings[0].sentence
    assert "liver left of spleen" in sentence
    assert sentence.endswith("it fits the image, so both seem mirrored.")
    assert check_label(both[0], both[1], {}).findings == ()  # nothing tells them apart without names


def test_a_wrong_origin_is_told_in_millimetres(image: Scan, label: Scan) -> None:
    x, y, z = label.origin_xyz_mm
    moved = replace(label, origin_xyz_mm=(x + 45.0, y, z))
    check = check_label(image, moved, {}, word="prediction")
    assert kinds(check) == ["header"]
    sentence = check.findings[0].sentence
    assert sentence.startswith("The prediction lies on another grid than the image (origin (222.2, ")
    assert " mm against (177.2, " in sentence  # 31.5 voxels of 5.625 mm, and 45 mm more
    assert "the same voxels are up to 45.0 mm apart" in sentence
    assert "its header seems wrong" in sentence
    assert sentence.endswith("if laid on the image voxel by voxel.")


def test_a_label_on_a_grid_of_its_own_is_told_and_judged_where_its_header_puts_it(image: Scan, label: Scan) -> None:
    thinned = replace(
        label,
        array_zyx=label.array_zyx[:, ::2, ::2],
        spacing_xyz_mm=(label.spacing_xyz_mm[0] * 2, label.spacing_xyz_mm[1] * 2, label.spacing_xyz_mm[2]),
    )
    check = check_label(image, thinned, NAMES)
    assert kinds(check) == ["header"]
    assert "shape 32x28x24 against 64x56x24; spacing (11.25, 10, 13.33) mm against (5.625, 5, 13.33) mm" in (
        check.findings[0].sentence
    )
    assert check.fit is not None
    assert check.fit.better is None


def test_a_label_of_another_patient_seems_misplaced(image: Scan, label: Scan) -> None:
    other = replace(label, array_zyx=generate_ct(4, (64, 56, 24)).labels_xyz.transpose(2, 1, 0))
    check = check_label(image, other, NAMES)
    assert kinds(check) == ["fit"]
    assert "seems misplaced, or of another scan" in check.findings[0].sentence


def test_a_structure_in_the_air_is_named_with_its_share(image: Scan, label: Scan) -> None:
    array = label.array_zyx.copy()
    array[:, :4, :4] = 77  # a corner of the field, away from the patient
    check = check_label(image, replace(label, array_zyx=array), NAMES)
    assert kinds(check) == ["outside"]
    assert check.findings[0].sentence.endswith("in the air around the patient lie value 77 (100 %).")


def test_an_empty_label_is_told(image: Scan, label: Scan) -> None:
    check = check_label(image, replace(label, array_zyx=np.zeros_like(label.array_zyx)), NAMES)
    assert [finding.sentence for finding in check.findings] == ["The label map is empty: every voxel is 0."]
    assert check.fit is None


def test_a_transposed_label_is_told_with_what_mends_it(image: Scan, label: Scan) -> None:
    square = [replace(one, array_zyx=one.array_zyx[:, :, 4:60]) for one in (image, label)]
    transposed = replace(square[1], array_zyx=square[1].array_zyx.transpose(0, 2, 1))
    sentence = check_label(square[0], transposed, {}).findings[0].sentence
    assert sentence.startswith("The label map seems transposed in the axial plane: ")
    assert sentence.endswith(" with x and y exchanged.")


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
