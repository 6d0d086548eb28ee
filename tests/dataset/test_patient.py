"""What names say."""

from pathlib import Path

import pytest

from voco_cli.dataset.patient import case_of, modality_of, patient_of, stem_of


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("imagesTr/liver_12.nii.gz", "liver_12"),
        ("imagesTr/case_0007_0000.nii.gz", "case_0007"),
        ("sub-03/anat/sub-03_ses-1_T1w.nii.gz", "sub-03"),
        ("patient_9/ct.nii.gz", "patient_9"),
        ("patient_9/CT_2.nrrd", "patient_9"),
        ("liver.v2.mha", "liver.v2"),
    ],
)
def test_patient(path: str, patient: str) -> None:
    assert patient_of(Path("/data") / path) == patient


def test_stem_and_case() -> None:
    assert stem_of(Path("a.b_0001.nii.gz")) == "a.b_0001"
    assert case_of(Path("a.b_0001.nii.gz")) == "a.b"


def test_modality_is_told_by_whole_words_up_to_the_root() -> None:
    root = Path("/data/ct/set")
    assert modality_of(root / "a_CT.nii.gz", root) == "CT"
    assert modality_of(root / "mri" / "a.nii.gz", root) == "MR"
    assert modality_of(root / "octopus_action.nii.gz", root) == "unknown"
