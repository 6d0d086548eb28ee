"""What names say."""

from pathlib import Path

import pytest

from voco_cli.dataset.patient import case_of, modality_of, patients_of, stem_of


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("imagesTr/liver_12.nii.gz", "liver_12"),
        ("imagesTr/amos_0004.nii.gz", "amos_0004"),
        ("imagesTr/case_0007_0000.nii.gz", "case_0007"),
        ("imagesTr/volume-12.nii", "volume-12"),
        ("LUNG1-001/image.nii.gz", "LUNG1-001"),
        ("sub-03/anat/sub-03_ses-1_T1w.nii.gz", "sub-03"),
        ("patient_9/ct.nii.gz", "patient_9"),
        ("patient_9/CT_2.nrrd", "patient_9"),
        ("liver.v2.mha", "liver.v2"),
    ],
)
def test_patient(path: str, patient: str) -> None:
    whole = Path("/data") / path
    assert patients_of([whole]) == {whole: patient}


def together(*names: str) -> list[str]:
    return list(patients_of(Path("/data") / name for name in names).values())


def test_numbered_cases_are_not_channels_of_one_case() -> None:
    assert together(*(f"amos_{number:04d}.nii.gz" for number in range(3))) == ["amos_0000", "amos_0001", "amos_0002"]
    assert together("case_0003_0000.nii.gz", "case_0003_0001.nii.gz", "case_0004_0000.nii.gz") == [
        "case_0003",
        "case_0003",
        "case_0004",
    ]
    assert together("phantom_000_0011.nii.gz", "phantom_000_0012.nii.gz") == ["phantom_000_0011", "phantom_000_0012"]


def test_many_numbered_volumes_in_one_folder_are_cases_and_few_are_visits() -> None:
    names = [f"batch 1/volume-{number}.nii" for number in range(11)]
    assert together(*names) == [f"volume-{number}" for number in range(11)]
    assert together("pat_7/ct_1.nii.gz", "pat_7/ct_2.nii.gz", "pat_8/ct_1.nii.gz") == ["pat_7", "pat_7", "pat_8"]


def test_stem_and_case() -> None:
    assert stem_of(Path("a.b_0001.nii.gz")) == "a.b_0001"
    assert case_of(Path("a.b_0001.nii.gz")) == "a.b"


def test_modality_is_told_by_whole_words_up_to_the_root() -> None:
    root = Path("/data/ct/set")
    assert modality_of(root / "a_CT.nii.gz", root) == "CT"
    assert modality_of(root / "mri" / "a.nii.gz", root) == "MR"
    assert modality_of(root / "octopus_action.nii.gz", root) == "unknown"
