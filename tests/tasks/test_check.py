"""A task checked against a folder: found, missing, grids, channels, label values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.made_task import write_task
from voco_cli.config import load_settings, task_names
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.evaluate.label_check import label_faults
from voco_cli.tasks.check import TaskCheck, check_task
from voco_cli.tasks.find_data import take_inventory

SMALL = (32, 32, 12)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOCO_DATA", raising=False)


def look(name: str, root: Path, *overrides: str, decode: bool = True) -> TaskCheck:
    settings = load_settings(task=name, overrides=overrides, flags={"data.root": root}).settings
    return check_task(take_inventory(settings), settings.task, decode, lambda n: None, workers=1)


@pytest.mark.parametrize("name", task_names())
def test_made_folders_match_but_for_what_was_not_made(name: str, tmp_path: Path) -> None:
    found = look(name, write_task(tmp_path, name, shape_xyz=SMALL))
    task = load_settings(task=name).settings.task
    assert found.faults == ()
    assert [split.found for split in found.splits[:2]] == [3, 2]
    assert found.missing > 0
    assert not found.is_good
    if task.kind == "segmentation":
        listed = {value for one in task.classes for value in one.values}
        assert set(found.values) <= {0, *listed}
        assert found.classes[task.classes[0].name] == 5 + (name == "word")
        assert [split.labelled for split in found.splits[:2]] == [3, 2]
    else:
        assert sum(found.classes.values()) == 6


def test_a_whole_set_is_good(tmp_path: Path) -> None:
    found = look("mmwhs", write_task(tmp_path, "mmwhs", 16, 4, shape_xyz=SMALL))
    assert found.is_good
    assert [(split.found, split.missing, split.labelled) for split in found.splits] == [
        (16, (), 16),
        (4, (), 4),
        (0, (), 0),
    ]
    assert found.layouts == {"images/{case}_image.nii.gz with labels/{case}_label.nii.gz": 20}
    assert {420, 421, 500} <= set(found.values)
    assert found.to_json()["good"] is True


def test_headers_alone_say_nothing_of_values(tmp_path: Path) -> None:
    found = look("mmwhs", write_task(tmp_path, "mmwhs", 16, 4, shape_xyz=SMALL), decode=False)
    assert found.is_good
    assert found.values == {}


def test_faults_are_one_sentence_each(tmp_path: Path) -> None:
    root = write_task(tmp_path, "mmwhs", 16, 4, shape_xyz=SMALL)
    odd, moved, broken = (root / f"labels/ct_train_10{n:02d}_label.nii.gz" for n in (5, 6, 7))
    scan = read_scan(odd)
    stray = scan.array_zyx.copy()
    stray[0, 0, :2] = (7, 422)
    write_scan(stray, scan, odd)
    write_scan(scan.array_zyx[:-1], read_cut(scan), moved)
    broken.write_bytes(b"not an image")
    found = look("mmwhs", root)
    assert not found.is_good
    assert len(found.faults) == 3
    by_case = dict(fault.split(": ", 1) for fault in found.faults)
    assert by_case["ct_train_1005"] == "ct_train_1005_label.nii.gz has the label values 7, 422, which no class has."
    assert "label on another grid than" in by_case["ct_train_1006"]
    assert "32x32x11 voxels against 32x32x12" in by_case["ct_train_1006"]
    assert "ct_train_1007_label.nii.gz" in by_case["ct_train_1007"]
    assert look("mmwhs", root, "task.unlisted=background").values[7] == 1


def read_cut(scan: Scan) -> Scan:
    """The same scan without its last slice."""
    return replace(scan, array_zyx=scan.array_zyx[:-1])


def test_channels_on_unlike_grids(tmp_path: Path) -> None:
    root = write_task(tmp_path, "brats21", 1, 1, shape_xyz=SMALL)
    path = root / "BraTS2021_00002/BraTS2021_00002_t2.nii.gz"
    scan = read_scan(path)
    write_scan(np.zeros((11, 32, 32), np.int16), read_cut(scan), path)
    (fault,) = look("brats21", root).faults
    assert fault.startswith("BraTS2021_00002: BraTS2021_00002_t2.nii.gz: channel on another grid than")
    path.unlink()
    assert "BraTS2021_00002 (BraTS2021_00002/BraTS2021_00002_t2.nii.gz)" in look("brats21", root).splits[0].missing


def test_cases_that_may_be_missing_are_no_fault(tmp_path: Path) -> None:
    root = write_task(tmp_path, "btcv", shape_xyz=SMALL)
    assert not look("btcv", root, decode=False).is_good
    found = look("btcv", root, "task.missing=leave_out", decode=False)
    assert found.is_good
    assert found.missing == 25


def test_a_missing_test_set_without_public_labels_is_no_fault(tmp_path: Path) -> None:
    found = look("btcv", write_task(tmp_path, "btcv", 24, 6, 0, shape_xyz=SMALL), decode=False)
    assert found.is_good
    assert len(found.splits[2].missing) == 20
    assert not found.splits[2].required


def test_the_one_flipped_label_is_found_among_generated_cts(tmp_path: Path) -> None:
    root = write_task(tmp_path, "btcv", 3, 1, 0, shape_xyz=(64, 56, 24))
    flipped = root / "labelsTr/label0002.nii.gz"
    scan = read_scan(flipped)
    write_scan(scan.array_zyx[:, :, ::-1], scan, flipped)
    settings = load_settings(task="btcv", overrides=["task.missing=leave_out"], flags={"data.root": root}).settings
    found = check_task(take_inventory(settings), settings.task, True, lambda n: None, 1, label_faults)
    fit, sides = found.faults
    assert fit.startswith("img0002: The label map seems flipped left-right: across its borders")
    assert sides.startswith("img0002: By its structures' names the label map seems mirrored left-right: ")
    assert not found.is_good
    assert found.classes["spleen"] == 4
    write_scan(scan.array_zyx, scan, flipped)
    assert check_task(take_inventory(settings), settings.task, True, lambda n: None, 1, label_faults).faults == ()


def test_voxels_that_nobody_annotated_are_no_structure_to_lie_wrong(tmp_path: Path) -> None:
    root = write_task(tmp_path, "btcv", 1, 1, 0, shape_xyz=(64, 56, 24))
    path = next((root / "labelsTr").iterdir())
    scan = read_scan(path)
    stray = scan.array_zyx.copy()
    stray[:, :4, :4] = 77  # in the air beside the patient
    write_scan(stray, scan, path)
    overrides = ["task.missing=leave_out", "task.unlisted=background"]
    settings = load_settings(task="btcv", overrides=overrides, flags={"data.root": root}).settings
    inventory = take_inventory(settings)
    (fault,) = check_task(inventory, settings.task, True, lambda n: None, 1, label_faults).faults
    assert fault.endswith("in the air around the patient lie value 77 (100 %).")
    ignoring = settings.task.model_copy(update={"ignore_value": 77})
    assert check_task(inventory, ignoring, True, lambda n: None, 1, label_faults).faults == ()
