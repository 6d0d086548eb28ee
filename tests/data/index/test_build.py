"""Folders in, a datalist out: what is listed, what is refused and why."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.index.build_lists import LABEL, OPTIONS, index, listed, reasons
from tests.data.io.make_files import numbers, write_dicom, write_nifti, write_rtstruct
from voco_cli.data.index.datalist import SplitRule
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.errors import DataError, UsageError


def test_every_refusal_is_named_and_the_rest_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_nifti(root / "good.nii.gz")
    write_nifti(root / "flat.nii.gz", numbers()[..., 0])
    write_nifti(root / "film.nii.gz", np.zeros((4, 4, 4, 3), np.int16))
    cut = write_nifti(root / "cut.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    cut.write_bytes(cut.read_bytes()[:5000])
    (root / "empty.nii.gz").touch()
    (root / "text.nii.gz").write_text("hello")
    (root / "notes.md").write_text("hello")
    (root / ".hidden.nii.gz").write_text("not looked at")
    write_dicom(root / "gaps", (0, 3, 6, 12))
    write_dicom(root / "tilted", tilt_mm=0.3)
    write_dicom(root / "placeless", place=False)
    write_rtstruct(root / "contours.dcm")
    datalist = index(root)
    assert listed(datalist, root) == ["good.nii.gz"]
    expected = {
        "flat.nii.gz": "2-D (7x6)",
        "film.nii.gz": "4-D (4x4x4x3)",
        "cut.nii.gz": "truncated",
        "empty.nii.gz": "empty (0 bytes)",
        "text.nii.gz": "not a gzip file",
        "notes.md": "not an image",
        "gaps": "uneven slice gaps (2 x 3 mm, 1 x 6 mm)",
        "tilted": "a gantry tilt of 16.7 degrees",
        "placeless": "no geometry: 4 of 4 slices",
        "contours.dcm": "no image: a DICOM object of modality RTSTRUCT",
    }
    found = reasons(datalist)
    assert found.keys() == expected.keys()
    for name, start in expected.items():
        assert found[name].startswith(start), found[name]


def test_full_check_refuses_nan_constant_damage_and_copies(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    holed = numbers().astype(np.float32)
    holed[0, 0, :2], holed[1, 1, 1] = np.nan, np.inf
    write_nifti(root / "a_first.nii.gz")
    write_nifti(root / "b_copy.nii.gz", numbers().astype(np.float32))
    write_nifti(root / "constant.nii.gz", np.full((4, 4, 4), -1024, np.int16))
    write_nifti(root / "holed.nii.gz", holed)
    broken = write_nifti(root / "broken.nii.gz", numbers(start=7))
    raw = bytearray(broken.read_bytes())
    raw[-8] ^= 1
    broken.write_bytes(raw)
    assert len(listed(index(root), root)) == 5
    datalist = index(root, options=replace(OPTIONS, full=True))
    assert listed(datalist, root) == ["a_first.nii.gz"]
    found = reasons(datalist)
    assert found["b_copy.nii.gz"] == f"same content as {root / 'a_first.nii.gz'}, under another name."
    assert found["constant.nii.gz"] == "constant: every voxel is -1024."
    assert found["holed.nii.gz"] == "holds voxels that are no numbers: 2 NaN and 1 infinite."
    assert found["broken.nii.gz"].startswith("damaged: incorrect checksum")


def test_running_again_and_growing_move_nobody(tmp_path: Path) -> None:
    root, output = tmp_path / "scans", tmp_path / "scans" / "data.json"
    for i in range(6):
        write_nifti(root / f"p{i}.nii.gz")
    first = index(root, output=output)
    assert len(first.validation) >= 1
    write_datalist(first, output)
    before = output.read_bytes()
    write_datalist(index(root, output=output), output)
    assert output.read_bytes() == before
    for i in range(6, 30):
        write_nifti(root / f"p{i}.nii.gz")
    grown = index(root, output=output)
    split_of = {entry.patient: split for split, entry in grown.entries()}
    assert len(split_of) == 30
    assert all(split_of[entry.patient] == split for split, entry in first.entries())


def test_patient_pattern_joins_visits(tmp_path: Path) -> None:
    for name in ("A_2001", "A_2002", "B_2001"):
        write_nifti(tmp_path / "s" / f"{name}x.nii.gz")
    datalist = index(tmp_path / "s", options=replace(OPTIONS, patient_pattern=r"/([A-Z])_\d+x"))
    assert {entry.patient for _, entry in datalist.entries()} == {"A", "B"}
    with pytest.raises(UsageError, match="one group"):
        index(tmp_path / "s", options=replace(OPTIONS, patient_pattern="A_"))


def test_statistics_are_those_of_the_scans(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_nifti(root / "a.nii.gz")
    write_nifti(root / "b.nii.gz", numbers((9, 6, 5)))
    numbers_of = index(root, options=replace(OPTIONS, rule=SplitRule(validation=0.0))).statistics
    assert numbers_of["scans"] == numbers_of["patients"] == 2
    assert numbers_of["shape"] == {"least": [7, 6, 5], "median": [8, 6, 5], "greatest": [9, 6, 5]}
    assert numbers_of["extent_mm"]["greatest"] == [18, 12, 15]
    assert numbers_of["voxels"] == 7 * 6 * 5 + 9 * 6 * 5
    assert numbers_of["orientations"] == {"LPS": 2}


def test_nothing_readable_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        index(tmp_path / "s")
    for name in ("a.txt", "b.txt"):
        (tmp_path / "s" / name).write_text("hello")
    (tmp_path / "s" / "c.nii").touch()
    with pytest.raises(UsageError, match=r"no scan that can be listed; found: 2 not an image, 1 empty\."):
        index(tmp_path / "s")
    with pytest.raises(DataError, match="nope does not exist"):
        index(tmp_path / "nope")


def test_another_program_s_file_is_not_replaced(tmp_path: Path) -> None:
    write_nifti(tmp_path / "s" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(UsageError, match="not written by `voco index`"):
        index(tmp_path / "s", output=tmp_path / "dataset.json")


def test_processes_find_the_same(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    for i in range(5):
        write_nifti(root / f"p{i}.nii.gz", numbers(start=i))
    (root / "bad.nii").write_text("hello")
    alone = index(root, options=replace(OPTIONS, full=True))
    assert index(root, options=replace(OPTIONS, full=True, workers=2)) == alone


def test_shared_data_is_refused_by_the_right_names(shared_data: Path, tmp_path: Path) -> None:
    datalist = index(shared_data, output=tmp_path / "all.json", options=replace(OPTIONS, full=True))
    found = reasons(datalist)
    expected = {
        "constant.nii.gz": "constant",
        "empty.nii.gz": "empty",
        "four_d.nii.gz": "4-D",
        "not_an_image.nii.gz": "not a gzip file",
        "sheared_sform_only.nii.gz": "axes that are not at right angles",
        "truncated.nii.gz": "truncated",
        "two_d.nii.gz": "2-D",
        "with_nans.nii.gz": "holds voxels that are no numbers: 400 NaN and 1 infinite",
        "tilted_uneven": "a gantry tilt of 18.5 degrees and uneven slice gaps (2 x 7 mm, 1 x 4 mm, 1 x 1.08 mm)",
    }
    for name, start in expected.items():
        assert found.pop(name).startswith(start)
    rest = set(found.values())
    assert all(reason.startswith(("not an image", "no image: a DICOM object of modality RTSTRUCT")) for reason in rest)
    assert datalist.statistics["modalities"] == {"MR": 133, "unknown": 52, "CT": 12, "PT": 1}
    assert datalist.statistics["labelled"] == 135


@pytest.fixture
def shared_data() -> Path:
    """The folder of public scans, where there is one."""
    root = Path(os.environ.get("VOCO_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    if not (root / "formats").is_dir():
        pytest.skip("VOCO_SHARED names no folder of public scans")
    return root


def test_a_guess_from_the_name_drops_no_scan(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("P0_t0", "P0_t1", "pt_07", "head_flair"):
        write_nifti(root / f"{name}.nii.gz")
    plain = {entry.image.name: entry.modality for _, entry in index(root).entries()}
    assert plain == {
        "P0_t0.nii.gz": "unknown",
        "P0_t1.nii.gz": "unknown",
        "pt_07.nii.gz": "unknown",
        "head_flair.nii.gz": "MR",
    }
    asked = index(root, options=replace(OPTIONS, modality="CT"))
    assert {entry.modality for _, entry in asked.entries()} == {"CT"}
    notes = {entry.image.name: entry.notes for _, entry in asked.entries()}
    assert notes["pt_07.nii.gz"][0] == "modality is not known and was taken to be CT"
    assert notes["head_flair.nii.gz"][0] == "modality is MR by the name alone and was taken to be CT"
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": {"background": 0}}))
    with pytest.raises(UsageError, match="4 other modality"):
        index(root, options=replace(OPTIONS, modality="CT"))


def test_the_sequences_of_a_case_are_one_patient(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for case in range(6):
        for kind in ("t1", "t1ce", "t2", "flair"):
            name = f"BraTS2021_{case:05d}"
            write_nifti(root / name / f"{name}_{kind}.nii.gz", numbers(start=case))
        write_nifti(root / name / f"{name}_seg.nii.gz", LABEL)
    datalist = index(root)
    assert datalist.statistics["scans"] == datalist.statistics["labelled"] == 24
    assert datalist.statistics["patients"] == 6
    split_of = {(entry.image.parent, split) for split, entry in datalist.entries()}
    assert len(split_of) == 6  # no folder on both sides
    assert {split for _, split in split_of} == {"training", "validation"}


def test_cases_of_one_file_name_are_called_by_their_folders(tmp_path: Path) -> None:
    root = tmp_path / "kits"
    for case in ("case_00000", "case_00001"):
        write_nifti(root / case / "imaging.nii.gz")
        write_nifti(root / case / "segmentation.nii.gz", LABEL)
    for patient in ("P1", "P2"):
        write_dicom(root / patient / "CT", patient=patient)
    datalist = index(root)
    assert sorted(entry.name for _, entry in datalist.entries()) == ["P1", "P2", "case_00000", "case_00001"]
    write_datalist(datalist, tmp_path / "data.json")
    again = index(tmp_path / "data.json")
    assert {entry.image: entry.name for _, entry in again.entries()} == {
        entry.image: entry.name for _, entry in datalist.entries()
    }
