"""Sides of structures by their names, and structures in the air around the patient."""

from __future__ import annotations

import numpy as np

from voco_cli.evaluate.label_fit import check_orientation, looks_like_ct, shares_in_air

# Centres in mm along right, front, head, as in a patient.
PATIENT = {
    "liver": (60.0, 20.0, 100.0),
    "Spleen": (-80.0, -30.0, 110.0),
    "right kidney": (50.0, -50.0, 40.0),
    "left kidney": (-50.0, -50.0, 50.0),
    "urinary_bladder": (0.0, 40.0, -150.0),
    "lung_lower_lobe_left": (-70.0, -20.0, 190.0),
    "lung_lower_lobe_right": (70.0, -20.0, 185.0),
    "gtv_1": (500.0, 500.0, 500.0),
}


def mirrored(axis: int) -> dict[str, tuple[float, float, float]]:
    turned = {}
    for name, centre in PATIENT.items():
        x, y, z = (-value if i == axis else value for i, value in enumerate(centre))
        turned[name] = (x, y, z)
    return turned


def test_a_patient_as_anatomy_has_it_is_no_finding() -> None:
    assert check_orientation(PATIENT) == ()


def test_mirrored_left_right() -> None:
    (finding,) = check_orientation(mirrored(0))
    assert finding.axis == 0
    assert finding.right == 0
    assert finding.wrong == (
        ("liver", "Spleen"),
        ("lung_lower_lobe_right", "lung_lower_lobe_left"),
        ("right kidney", "left kidney"),
    )
    assert str(finding) == (
        "liver left of Spleen, lung_lower_lobe_right left of lung_lower_lobe_left, right kidney left of left kidney "
        "(3 of 3 pairs lie the wrong way round)"
    )


def test_mirrored_front_back_and_head_feet() -> None:
    (finding,) = check_orientation(mirrored(1))
    assert (finding.axis, finding.wrong) == (1, (("liver", "right kidney"),))
    (finding,) = check_orientation(mirrored(2))
    assert finding.axis == 2
    # Two lungs above two kidneys and the liver, two kidneys and the liver above the bladder.
    assert len(finding.wrong) == 9
    assert "liver below urinary_bladder" in str(finding)


def test_one_odd_pair_among_more_is_no_finding() -> None:
    assert check_orientation({**PATIENT, "lung_lower_lobe_left": (80.0, -20.0, 190.0)}) == ()


def test_letters_for_sides_and_numbers_are_read() -> None:
    (finding,) = check_orientation({"kidney_L": (10.0, 0.0, 0.0), "kidney_R": (0.0, 0.0, 0.0)})
    assert finding.wrong == (("kidney_R", "kidney_L"),)
    # Rib 7 on the left is no partner of rib 8 on the right.
    assert check_orientation({"rib_left_7": (10.0, 0.0, 0.0), "rib_right_8": (0.0, 0.0, 0.0)}) == ()


def test_gallbladder_is_no_bladder() -> None:
    assert check_orientation({"gallbladder": (10.0, 0.0, 50.0), "kidney": (0.0, 0.0, 0.0)}) == ()


def test_names_that_say_nothing_are_no_finding() -> None:
    assert check_orientation({"value 1": (0.0, 0.0, 0.0), "value 2": (1.0, 1.0, 1.0)}) == ()
    assert check_orientation({}) == ()


SPACING = (4.0, 4.0, 4.0)


def test_shares_in_the_air_around_a_body_with_lungs() -> None:
    image = np.full((40, 30, 20), -1000.0)
    image[10:30, 5:25] = 40  # the body
    image[12:18, 10:20, 5:15] = -850  # a lung
    image[22:26, 12:16, 8:12] = -1000  # gas in the bowel
    label = np.zeros(image.shape, np.uint8)
    label[12:18, 10:20, 5:15] = 1  # lung
    label[22:26, 12:16, 8:12] = 2  # bowel
    label[0:6, 0:3, 0:20] = 3  # all in the air
    label[6:14, 12:16, 16:20] = 4  # half of it: 6 to 9 of 6 to 13, but the mean over 3 voxels ends at 8
    shares = shares_in_air(image, label, SPACING)
    assert shares == {1: 0.0, 2: 0.0, 3: 1.0, 4: 3 / 8}


def test_fine_grids_are_thinned() -> None:
    image = np.full((80, 80, 20), -1000.0)
    image[20:60, 20:60] = 0
    label = np.zeros(image.shape, np.uint8)
    label[0:8, 0:8] = 7
    assert shares_in_air(image, label, (1.0, 1.0, 4.0)) == {7: 1.0}


def test_ct_is_told_from_mr_and_from_a_crop_without_air() -> None:
    ct = np.full((32, 32, 32), -1000.0)
    ct[8:24, 8:24] = 60
    assert looks_like_ct(ct)
    assert looks_like_ct(np.where(ct < 0, np.nan, ct) - 1060) is False
    assert not looks_like_ct(ct + 1000)
    assert not looks_like_ct(ct[8:24, 8:24])
