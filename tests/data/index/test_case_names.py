"""Cases of one name are told apart by their folders."""

from pathlib import Path

import pytest

from voco_cli.data.index.case_names import distinct_names
from voco_cli.data.index.datalist import is_file_name
from voco_cli.data.index.patients import case_of


def names(*paths: str) -> list[str]:
    found = distinct_names({Path("/d") / path: case_of(Path("/d") / path) for path in paths})
    assert len(set(found.values())) == len(paths)
    assert all(is_file_name(name) for name in found.values())
    return list(found.values())


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.nii", "b.nii"], ["a", "b"]),
        (["case_1/imaging.nii.gz", "case_2/imaging.nii.gz"], ["case_1", "case_2"]),
        (["P1/CT", "P2/CT"], ["P1", "P2"]),  # folders of DICOM
        (["P1/CT", "P1/PET", "P2/CT", "P2/PET"], ["P1_CT", "P1_PET", "P2_CT", "P2_PET"]),
        (["P1/CT/IM1", "P2/CT/IM1"], ["P1_IM1", "P2_IM1"]),
        (["a/p1.nii", "b/p1.nii", "b/p2.nii"], ["a_p1", "b_p1", "p2"]),
        (["x_0000.nii", "x_0001.nii", "y_0000.nii"], ["x_0000", "x_0001", "y"]),
        (["v/t0/ct.nii", "w/t0/ct.nii", "v/t1/ct.nii"], ["v_t0", "w_t0", "v_t1"]),
        (["ct.nii", "a/ct.nii"], ["ct", "a"]),
        (["a/x.nii", "a/x.mha"], ["x_2", "x"]),
        (["a_x.nii", "a/x.nii", "b/x.nii"], ["a_x", "a_x_2", "b_x"]),
        ([f"{'ä' * 150}1/x.nii", f"{'ä' * 150}2/x.nii"], [f"{'ä' * 98}1_x", f"{'ä' * 98}2_x"]),
    ],
)
def test_names(paths: list[str], expected: list[str]) -> None:
    assert names(*paths) == expected
