"""What is said of an image and a label map that do not belong together, with the numbers of a made case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voco_cli.data.io.image import Scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import generate_ct
from voco_cli.evaluate.label_check import LabelCheck, check_label

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
