"""What names say."""

from pathlib import Path

import pytest

from voco_cli.data.index.patients import case_of, modality_of, numbered, patients_of, places_of, stem_of


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
        ("BraTS2021_00003/BraTS2021_00003_t1ce.nii.gz", "BraTS2021_00003"),
        ("BraTS2021_00003_flair.nii.gz", "BraTS2021_00003"),
        ("BraTS-GLI-00003-001/BraTS-GLI-00003-001-t1n.nii.gz", "BraTS-GLI-00003"),
        ("BraTS-GLI-00003-000/t2f.nii.gz", "BraTS-GLI-00003"),
        ("LUNG1-001/LUNG1-001_image.nii.gz", "LUNG1-001"),
        ("patient001/patient001_frame01.nii.gz", "patient001"),  # ACDC
        ("case_01/case_01_IMG_MR_T1.nrrd", "case_01"),  # HaN-Seg
        ("PDGM-0004/PDGM-0004_T1_bias.nii.gz", "PDGM-0004"),
        ("P001_t0.nii.gz", "P001"),
        ("P001_visit-2.nii.gz", "P001"),
        ("P001_2019-05-31_ct.nii.gz", "P001"),
        ("P001/baseline/ct.nii.gz", "P001"),
        ("P001/t1/CT/imaging.nii.gz", "P001"),
        ("pt_07.nii.gz", "pt_07"),
        ("cohort2/pt_07.nii.gz", "pt_07"),
        ("hippocampus/hippocampus_001.nii.gz", "hippocampus_001"),
        ("Task04/Task04_001.nii.gz", "Task04_001"),
        ("site2/site2_anna.nii.gz", "site2"),
        ("ct_train_1001_image.nii.gz", "ct_train_1001_image"),  # MM-WHS
        ("imagesTr/img0001.nii.gz", "img0001"),  # BTCV
        ("FLARE22_Tr_0001_0000.nii.gz", "FLARE22_Tr_0001"),
        ("anna_ct.nii.gz", "anna"),
        ("case_20190531.nii.gz", "case_20190531"),
        ("scans/Größe Ümlaut 3.nii.gz", "Größe Ümlaut 3"),
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


def test_one_name_in_each_folder_tells_nobody() -> None:
    assert together("P1/abdomen.nii.gz", "P2/abdomen.nii.gz", "P2/chest.nii.gz") == ["P1", "P2", "chest"]
    assert together("t0/anna.nii.gz", "t1/anna.nii.gz", "t0/bob.nii.gz") == ["anna", "bob", "anna"]
    assert together("a/p1.nii.gz", "b/p1.nii.gz") == ["p1", "p1"]


def test_stem_and_case() -> None:
    assert stem_of(Path("a.b_0001.nii.gz")) == "a.b_0001"
    assert case_of(Path("a.b_0001.nii.gz")) == "a.b"
    assert [stem_of(Path(f"x{ending}")) for ending in (".hdr", ".IMG", ".img.gz", ".hdr.gz")] == ["x"] * 4


def test_modality_is_told_by_whole_words_up_to_the_root() -> None:
    root = Path("/data/ct/set")
    assert modality_of(root / "a_CT.nii.gz", root) == "CT"
    assert modality_of(root / "mri" / "a.nii.gz", root) == "MR"
    assert modality_of(root / "octopus_action.nii.gz", root) == "unknown"


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("pt_07", "unknown"),  # patient 7
        ("PT-007", "unknown"),
        ("pd_12", "unknown"),
        ("P7_PT", "PT"),
        ("P7__CT", "CT"),
        ("hecktor_pt", "PT"),
        ("P7-t1n", "MR"),
        ("P7_t1", "MR"),
        ("sub-01_T1w", "MR"),
        ("septic", "unknown"),
        ("P7_SUV", "PT"),
    ],
)
def test_modality_of_a_name(name: str, modality: str) -> None:
    assert modality_of(Path("/d") / f"{name}.nii.gz", Path("/d")) == modality


def test_t1_beside_t0_is_a_time_point() -> None:
    def found(*names: str) -> list[str]:
        paths = [Path("/d") / name for name in names]
        places = places_of(paths)
        return [modality_of(path, Path("/d"), places) for path in paths]

    assert found("P0_t0.nii.gz", "P0_t1.nii.gz", "P1_t1.nii.gz") == ["unknown", "unknown", "MR"]
    assert found("P0_T1.nii.gz", "P0_T2.nii.gz", "P0_T3.nii.gz") == ["unknown"] * 3
    assert found("P0_t1.nii.gz", "P0_t2.nii.gz") == ["MR", "MR"]
    assert found("P0/t0/a.nii.gz", "P0/t1/a.nii.gz", "P0/t1/b_ct.nii.gz") == ["unknown", "unknown", "CT"]


def test_numbers_in_place_of_names() -> None:
    assert numbered(["MEIER", "KHAN", "MEIER", "ABE"]) == ("p001", "p002", "p001", "p003")
    assert numbered(numbered(["b", "a", "b"])) == numbered(["b", "a", "b"])
    assert numbered(f"{n}" for n in range(1001))[-1] == "p1001"
