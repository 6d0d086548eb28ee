"""The plan of a prediction, its sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.cache.made_scans import body_hu, write_nifti
from tests.tasks.made_run import make_run
from voco_cli.config import read_saved
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, UsageError
from voco_cli.predict.memory import needed_memory
from voco_cli.resources import plan_predict
from voco_cli.resources.amounts import Plan
from voco_cli.resources.costs import RESAMPLE_S, count_windows
from voco_cli.resources.plan_predict import plan_prediction

SHAPES = {"small": (20, 18, 14), "large": (40, 30, 20)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for name, shape in SHAPES.items():
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", body_hu(shape), np.diag([2.0, 2.0, 2.0, 1.0]))
    return tmp_path / "scans"


def make_plan(run: Path, scans: Path) -> Plan:
    return plan_prediction(run, [scans], run.parent / "out", 20.0, lambda text: None)


def test_memory_disk_and_time(run: Path, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_predict, "_window_seconds", lambda trained: 0.5)
    plan = make_plan(run, scans)
    assert plan.fits
    assert not (run.parent / "out").exists()
    settings = read_saved(run / "settings.yaml")
    largest = read_header(scans / "large.nii.gz")
    foreseen = needed_memory(largest, settings, torch.device("cpu")).host_bytes
    own, scan = plan.needs[0].parts
    assert scan.amount.value == foreseen
    assert own.amount.value > 100e6
    (predictions,) = plan.needs[1].parts
    voxels = 20 * 18 * 14 + 40 * 30 * 20
    assert predictions.amount.value == pytest.approx(voxels / 40)
    assert [part.name for part in plan.times] == ["start", "reading and preprocessing", "network and the way back"]
    assert plan.times[1].amount.value == pytest.approx(sum(plan.figures["prepare_s"].values()))
    windows = sum(count_windows(shape, settings) for shape in SHAPES.values())
    expected = 0.5 * windows + voxels * settings.task.num_outputs * RESAMPLE_S
    assert plan.times[2].amount.value == pytest.approx(expected)


def test_a_window_is_really_timed(run: Path, scans: Path) -> None:
    assert make_plan(run, scans).figures["pass_s"]["value"] > 0


def test_a_scan_too_large_for_the_memory_is_not_tried(run: Path, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_predict, "free_host_bytes", lambda: 1000)
    plan = make_plan(run, scans)
    assert not plan.fits
    assert plan.times == ()
    assert plan.notes == ("No scan was tried, as the largest would take more memory than is free.",)
    assert "--set predict.window_batch=1" in plan.advice[0]


def test_damaged_scans_are_named_and_the_others_planned(run: Path, scans: Path) -> None:
    file = scans / "small.nii.gz"
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])
    plan = make_plan(run, scans)
    assert any("small" in note for note in plan.notes)
    assert plan.times


def test_what_prediction_would_refuse_is_refused(run: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        make_plan(tmp_path / "scans", scans)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        make_plan(run, tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        make_plan(run, tmp_path / "gone")
