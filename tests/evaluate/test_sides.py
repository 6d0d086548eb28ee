"""Sides of structures by their names."""

from __future__ import annotations

from voco_cli.evaluate.sides import wrong_sides

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
    assert wrong_sides(PATIENT) == ()


def test_mirrored_left_right() -> None:
    (finding,) = wrong_sides(mirrored(0))
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
    (finding,) = wrong_sides(mirrored(1))
    assert (finding.axis, finding.wrong) == (1, (("liver", "right kidney"),))
    (finding,) = wrong_sides(mirrored(2))
    assert finding.axis == 2
    # Two lungs above two kidneys and the liver, two kidneys and the liver above the bladder.
    assert len(finding.wrong) == 9
    assert "liver below urinary_bladder" in str(finding)


def test_one_odd_pair_among_more_is_no_finding() -> None:
    assert wrong_sides({**PATIENT, "lung_lower_lobe_left": (80.0, -20.0, 190.0)}) == ()


def test_letters_for_sides_and_numbers_are_read() -> None:
    (finding,) = wrong_sides({"kidney_L": (10.0, 0.0, 0.0), "kidney_R": (0.0, 0.0, 0.0)})
    assert finding.wrong == (("kidney_R", "kidney_L"),)
    # Rib 7 on the left is no partner of rib 8 on the right.
    assert wrong_sides({"rib_left_7": (10.0, 0.0, 0.0), "rib_right_8": (0.0, 0.0, 0.0)}) == ()


def test_gallbladder_is_no_bladder() -> None:
    assert wrong_sides({"gallbladder": (10.0, 0.0, 50.0), "kidney": (0.0, 0.0, 0.0)}) == ()


def test_names_that_say_nothing_are_no_finding() -> None:
    assert wrong_sides({"value 1": (0.0, 0.0, 0.0), "value 2": (1.0, 1.0, 1.0)}) == ()
    assert wrong_sides({}) == ()
