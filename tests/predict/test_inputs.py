"""Which cases files, folders and lists hold, for networks of one and of several channels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import body_hu, oriented_affine, write_nifti
from voco_cli.config.task_schema import Layout, Task
from voco_cli.errors import DataError, UsageError
from voco_cli.predict.inputs import Inputs, find_inputs

AFFINE = oriented_affine("LPS", (1.0, 1.0, 2.0))
ONE = Task()
BRAIN = Task(channels=("t1", "t1ce", "flair"))


def scan(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, body_hu((6, 5, 4)), AFFINE)


def label(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, np.ones((6, 5, 4), dtype=np.uint8), AFFINE)


def names(found: Inputs) -> list[str]:
    return sorted(entry.name for entry in found.entries)


def test_label_maps_and_other_files_are_passed_over(tmp_path: Path) -> None:
    scan(tmp_path / "imagesTr" / "a.nii.gz")
    label(tmp_path / "labelsTr" / "a.nii.gz")
    scan(tmp_path / "deeper" / "below" / "b.nii.gz")
    label(tmp_path / "deeper" / "below" / "b_seg.nii.gz")
    (tmp_path / "readme.txt").write_text("notes")
    found = find_inputs([tmp_path], ONE)
    assert names(found) == ["a", "b"]
    assert found.refused == ()
    assert {one.path.name for one in found.passed_over} == {"a.nii.gz", "b_seg.nii.gz", "readme.txt"}


def test_predictions_among_the_scans_are_none_of_them(tmp_path: Path) -> None:
    """Recorded ones anywhere; unrecorded ones, as a killed process leaves them, in the folder that is written to."""
    scan(tmp_path / "scans" / "a.nii.gz")
    scan(tmp_path / "scans" / "b.nii.gz")
    out = tmp_path / "scans" / "out"
    scan(out / "a.nii.gz")
    label(tmp_path / "scans" / "old" / "b.nii")
    record = {"format": "voco-prediction/1", "made_by": {"suffix": ".nii"}, "cases": {"b": "", "c": ""}}
    (tmp_path / "scans" / "old" / "prediction.json").write_text(json.dumps(record))
    found = find_inputs([tmp_path / "scans"], ONE, out)
    assert names(found) == ["a", "b"]
    told = {one.path.relative_to(tmp_path / "scans").as_posix(): one.reason for one in found.passed_over}
    assert set(told) == {"out/a.nii.gz", "old/b.nii", "old/prediction.json"}
    assert set(told.values()) == {"prediction of an earlier run."}
    assert names(find_inputs([tmp_path / "scans" / "a.nii.gz"], ONE, tmp_path)) == ["a"]
    assert names(find_inputs([out], ONE, out)) == ["a"]


def test_one_scan_that_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"not a gzip file")
    with pytest.raises(DataError, match=r"Nothing can be predicted: .*bad\.nii\.gz: not a gzip file"):
        find_inputs([tmp_path / "bad.nii.gz"], ONE)


def test_damaged_scans_are_refused_and_the_others_stay(tmp_path: Path) -> None:
    scan(tmp_path / "good.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"not a gzip file")
    found = find_inputs([tmp_path], ONE)
    assert names(found) == ["good"]
    assert [Path(case).name for case, _ in found.refused] == ["bad.nii.gz"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["x_0000", "y_0000"], ["x", "y"]),  # nnU-Net's, one channel each
        (["volume_0000", "volume_0001", "volume_0002"], ["volume_0000", "volume_0001", "volume_0002"]),
        (["case_12", "case_2019", "case_2020"], ["case_12", "case_2019", "case_2020"]),
    ],
)
def test_numbers_of_cases_and_of_channels(tmp_path: Path, files: list[str], expected: list[str]) -> None:
    for name in files:
        scan(tmp_path / f"{name}.nii.gz")
    assert names(find_inputs([tmp_path], ONE)) == expected


def test_more_channels_than_the_network_has(tmp_path: Path) -> None:
    for name in ("case_003_0000", "case_003_0001", "case_004_0000"):
        scan(tmp_path / f"{name}.nii.gz")
    found = find_inputs([tmp_path], ONE)
    assert names(found) == ["case_004"]
    assert found.refused == (
        (
            "case_003",
            "case_003 has 2 channels (case_003_0000.nii.gz, case_003_0001.nii.gz), and the network needs 1: image.",
        ),
    )


@pytest.mark.parametrize(
    "files",
    [
        ["P1_0000", "P1_0001", "P1_0002"],
        ["P1_T1", "P1_t1ce", "P1_flair"],
        ["P1-t1", "P1-t1ce", "P1-flair"],
    ],
)
def test_channels_of_one_case_in_the_networks_order(tmp_path: Path, files: list[str]) -> None:
    expected = [scan(tmp_path / f"{name}.nii.gz") for name in files]
    scan(tmp_path / "P2_flair.nii.gz")
    found = find_inputs([tmp_path], BRAIN)
    (entry,) = found.entries
    assert (entry.name, [entry.image, *entry.channels]) == ("P1", expected)
    assert found.refused == (("P2", "P2 has 1 channel (P2_flair.nii.gz), and the network needs 3: t1, t1ce, flair."),)


def test_channels_by_the_tasks_layout(tmp_path: Path) -> None:
    task = Task(
        channels=("a", "b"), layouts=(Layout(image=("{case}/{case}-first.nii.gz", "{case}/{case}-2nd.nii.gz")),)
    )
    for case in ("p1", "p2"):
        scan(tmp_path / case / f"{case}-2nd.nii.gz")
        scan(tmp_path / case / f"{case}-first.nii.gz")
    found = find_inputs([tmp_path], task)
    assert [[path.name for path in (entry.image, *entry.channels)] for entry in found.entries] == [
        [f"{case}-first.nii.gz", f"{case}-2nd.nii.gz"] for case in ("p1", "p2")
    ]
    assert names(found) == ["p1", "p2"]


def test_a_layout_names_cases_by_their_folders(tmp_path: Path) -> None:
    task = Task(layouts=(Layout(image="{case}/ct.nii.gz"),))
    for case in ("p1", "p2"):
        scan(tmp_path / case / "ct.nii.gz")
    assert names(find_inputs([tmp_path], task)) == ["p1", "p2"]


def test_lists_and_files_together(tmp_path: Path) -> None:
    paths = [scan(tmp_path / "s" / f"v_{i:04d}.nii.gz") for i in range(2)]
    more = scan(tmp_path / "more.nii.gz")
    items = [{"image": str(path), "patient": path.name} for path in paths]
    (tmp_path / "data.json").write_text(json.dumps({"training": items[:1], "validation": items[1:]}))
    assert names(find_inputs([tmp_path / "data.json", more], ONE)) == ["more", "v_0000", "v_0001"]


@pytest.mark.parametrize("given", ["folder", "list"])
def test_one_file_name_in_each_case_is_told_apart_by_folders(tmp_path: Path, given: str) -> None:
    for case in ("case_1", "case_2"):
        scan(tmp_path / "s" / case / "imaging.nii.gz")
        label(tmp_path / "s" / case / "segmentation.nii.gz")
    items = [f"s/{case}/imaging.nii.gz" for case in ("case_1", "case_2")]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    found = find_inputs([tmp_path / ("s" if given == "folder" else "list.json")], ONE)
    assert {entry.name: entry.image.parent.name for entry in found.entries} == {"case_1": "case_1", "case_2": "case_2"}


@pytest.mark.parametrize("given", ["folder", "list", "both"])
@pytest.mark.parametrize(
    "files", [("p1_0000", "p1_0001", "p1_0002"), ("p1_t1", "p1_t1ce", "p1_flair"), ("p1/t1", "p1/t1ce", "p1/flair")]
)
def test_channels_of_a_list_and_of_its_folder_are_the_same_case(
    tmp_path: Path, files: tuple[str, ...], given: str
) -> None:
    paths = [scan(tmp_path / "s" / f"{name}.nii.gz") for name in files]
    (tmp_path / "list.json").write_text(json.dumps({"training": [f"s/{name}.nii.gz" for name in reversed(files)]}))
    inputs = {"folder": ["s"], "list": ["list.json"], "both": ["s", "list.json"]}[given]
    (entry,) = find_inputs([tmp_path / name for name in inputs], BRAIN).entries
    assert (entry.name, [entry.image, *entry.channels]) == ("p1", paths)


def test_nothing_to_predict(tmp_path: Path) -> None:
    label(tmp_path / "labels" / "a.nii.gz")
    with pytest.raises(UsageError, match=r"holds no scan") as caught:
        find_inputs([tmp_path], ONE)
    assert "label map" in str(caught.value.hint)
    scan(tmp_path / "P2_flair.nii.gz")
    with pytest.raises(DataError, match=r"Nothing can be predicted: P2 .* the network needs 3: t1, t1ce, flair\.$"):
        find_inputs([tmp_path], BRAIN)
    with pytest.raises(DataError, match="does not exist"):
        find_inputs([tmp_path / "gone"], ONE)
