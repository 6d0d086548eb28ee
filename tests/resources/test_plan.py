"""The plan of the smallest pre-training and fine-tuning, against those runs, and on machines that are too small."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.entry import SPARE_BYTES
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError
from voco_cli.resources import plan as planning
from voco_cli.resources.amounts import Amount, Need, Plan
from voco_cli.resources.plan import (
    ESTIMATES,
    ON_A_PROCESSOR,
    RunCosts,
    TrainingPlan,
    drawn_sets,
    label_map_bytes,
    plan_finetuning,
    plan_pretraining,
    pretraining_cases,
)

Usage = namedtuple("Usage", "total used free")
CASES = (16, 4)
TRIED = 12


def settings_of(data: Path, run: Path, *override: str) -> Settings:
    return load_settings("debug", None, (*TINY, *override), {"data.file": data, "run.dir": run}).settings


def task_settings(data: Path, run: Path, *override: str) -> Settings:
    flags = {"data.root": data, "run.dir": run}
    return load_settings(None, None, (*TINY_TASK, *override), flags, task="btcv").settings


def make_plan(data: Path, run: Path, *override: str, budget_s: float = 20.0) -> Plan:
    return plan_pretraining(settings_of(data, run, *override), budget_s, lambda text: None)


def need(plan: Plan, kind: str, where: str = "") -> Need:
    return next(one for one in plan.needs if one.kind == kind and one.where.startswith(where))


def parts(plan: Plan) -> dict[str, Amount]:
    return {part.name: part.amount for part in need(plan, "disk").parts}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), *CASES)


@pytest.fixture(scope="module")
def plan(data: Path) -> Plan:
    return make_plan(data, data.parent / "run")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("task") / "BTCV")


@pytest.fixture(scope="module")
def costs(data: Path) -> RunCosts:
    """Of a run on a processor, in round numbers."""
    s, size = Amount.of(1.0, "measured"), Amount.of(1e6, "measured")
    return RunCosts(torch.device("cpu"), s, s, s, s, size, size, Amount.of(1e9, "measured"), None, int(2e9), 0)


def test_cache_and_checkpoints_are_those_of_the_run(data: Path, plan: Plan, tmp_path: Path) -> None:
    assert not (data.parent / "run").exists()
    assert sorted(path.name for path in data.parent.iterdir()) == ["data.json", "imagesTr"]
    tiny_run(data, tmp_path / "run", f"cache.dir={tmp_path / 'cache'}")
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.b2nd"))
    cache = parts(plan)["cache"]
    assert cache.value == pytest.approx(stored, rel=0.05)
    assert abs(stored - cache.value) <= 2 * (cache.high - cache.value)  # four standard errors
    checkpoints = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    one = sum(path.stat().st_size for path in checkpoints[-1].iterdir())
    assert parts(plan)["checkpoints"].value == pytest.approx(4 * one, rel=0.02)  # two, the best, one being written
    weights = (tmp_path / "run" / "weights" / "encoder.safetensors").stat().st_size
    assert parts(plan)["weights"].value == pytest.approx(weights, abs=10e3)


def test_the_plan_says_what_it_counted_and_what_is_estimated(plan: Plan) -> None:
    assert plan.fits
    assert [part.name for part in plan.times] == ["start", "cache", "steps", "validations", "checkpoints"]
    known = {part.name: part.amount.known for part in plan.times}
    assert known == {name: "measured" if name == "cache" else "estimated" for name in known}
    assert ESTIMATES in plan.notes
    assert plan.figures["missing_in_cache"] == sum(CASES)
    assert len(plan.figures["sample"]) == TRIED
    assert plan.figures["due"] == {"steps": 12, "validations": 2, "checkpoints": 3, "most_checkpoints": 4}
    assert 200e6 < need(plan, "memory", "training").needed_bytes < 2e9
    json.dumps(plan.to_json())


def test_a_full_cache_and_a_started_run_are_taken_into_account(data: Path, tmp_path: Path) -> None:
    override = (f"cache.dir={tmp_path / 'cache'}", "train.steps=8", "train.validate_every=100")
    tiny_run(data, tmp_path / "run", *override)
    (tmp_path / "run" / "checkpoints" / "step-000008").rename(tmp_path / "run" / "checkpoints" / "step-000003")
    plan = make_plan(data, tmp_path / "run", *override)
    assert "cache" not in parts(plan)
    assert plan.figures["due"]["steps"] == 4  # the last checkpoint is that of step 4
    assert "The run folder holds step 4; what is left from there is planned." in plan.notes
    assert "The cache holds every scan already." in plan.notes


def test_a_small_disk_does_not_fit_and_the_plan_says_what_to_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 0, SPARE_BYTES + 50_000))
    plan = make_plan(data, tmp_path / "run")
    disk = need(plan, "disk")
    assert (disk.free_bytes, disk.fits, plan.fits) == (50_000, False, False)
    assert plan.advice[0].startswith("Free ")
    assert any("--set cache.dir=FOLDER" in one for one in plan.advice)
    assert any("-o FOLDER" in one for one in plan.advice)


def test_activations_that_do_not_fit_are_foreseen_and_nothing_is_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops of 320^3 voxels with 64 channels: 2 x 18 crops of 75 GB."""
    override = ("preprocess.resize_vox=1280x1280x320", "crops.grid=4x4", "crops.size=320x320x320")
    more = ("model.feature_size=64", "model.checkpointing=off")
    monkeypatch.setattr("voco_cli.resources.cases.free_host_bytes", lambda: 0)
    monkeypatch.setattr(planning, "pass_seconds", lambda settings, device: Amount.within(1.0, 2.0))
    plan = make_plan(data, tmp_path / "run", *override, *more)
    memory = need(plan, "memory", "training")
    assert memory.needed_bytes > 36 * 64 * 320**3 * 36
    assert (memory.fits, memory.total.known) == (False, "estimated")
    assert "No scan was tried, as the largest would take more memory than is free." in plan.notes
    assert any("--set model.checkpointing=on" in one for one in plan.advice)


def test_a_gpu_with_too_little_memory(
    costs: RunCosts, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 GB are free; the host's memory is enough."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(8e9), int(8e9)))
    settings = settings_of(data, tmp_path / "run", "model.checkpointing=off")
    for taken, fits in ((9e9, False), (7e9, True)):
        gpu = replace(
            costs,
            device=torch.device("cuda", 0),
            device_bytes=Amount.of(taken, "measured"),
            free_device_bytes=int(8e9),
        )
        plan = TrainingPlan("pre-training", settings, pretraining_cases(settings), gpu).plan()
        device = need(plan, "GPU memory", "cuda:0")
        assert (device.needed_bytes, device.fits, plan.fits) == (taken, fits, fits)
        assert any("train.batch_size=1" in one for one in plan.advice) is not fits


def test_building_that_takes_too_much_memory_does_not_fit(data: Path, tmp_path: Path, costs: RunCosts) -> None:
    settings = settings_of(data, tmp_path / "run", "cache.workers=8")
    cases = pretraining_cases(settings)
    cases.find_missing(lambda text: None)
    plan = TrainingPlan("pre-training", settings, cases, replace(costs, free_host_bytes=int(1.5e9))).plan()
    building = need(plan, "memory", "building")
    assert not building.fits
    assert any("--set cache.workers=5" in one for one in plan.advice)


def test_days_on_a_processor_are_told(costs: RunCosts, data: Path, tmp_path: Path) -> None:
    for steps, told in ((12, False), (100_000_000, True)):
        settings = settings_of(data, tmp_path / "run", f"train.steps={steps}")
        plan = TrainingPlan("pre-training", settings, pretraining_cases(settings), costs).plan()
        assert (ON_A_PROCESSOR in plan.notes) is told


def test_a_cache_that_memory_does_not_hold_is_told(costs: RunCosts, data: Path, tmp_path: Path) -> None:
    settings = settings_of(data, tmp_path / "run")
    for free, told in ((2e9, False), (1e5, True)):
        cases = pretraining_cases(settings)
        cases.find_missing(lambda text: None)
        plan = TrainingPlan("pre-training", settings, cases, replace(costs, free_host_bytes=int(free))).plan()
        assert any("read it from the disk" in note for note in plan.notes) is told


def test_scans_that_cannot_be_used_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"None of the .* large enough after preprocessing; .* the grid needs 96x96x24"
    ):
        make_plan(data, tmp_path / "run", "preprocess.resize_vox=null", "crops.grid=4x4")
    with pytest.raises(UsageError, match="A step needs 99 different scans"):
        make_plan(data, tmp_path / "run", "train.batch_size=99")
    for image in (broken := write_data(tmp_path / "broken", 3, 1)).parent.rglob("*.nii.gz"):
        image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(DataError, match="None of the 4 scans that were tried can be used; phantom_00"):
        make_plan(broken, tmp_path / "run")


def test_a_plan_of_a_fine_tuning_and_its_run(labelled: Path, tmp_path: Path) -> None:
    plan = plan_finetuning(task_settings(labelled, tmp_path / "run"), 20.0, lambda text: None)
    assert list(tmp_path.iterdir()) == []
    assert plan.fits
    assert plan.subject == "fine-tuning of btcv"
    assert [part.name for part in plan.times] == [
        "start",
        "cache",
        "looking at labels",
        "steps",
        "validations",
        "checkpoints",
        "predicting and measuring at the end",
    ]
    tiny_finetune(labelled, tmp_path / "run")
    stored = sum(path.stat().st_size for path in (tmp_path / ".voco-cache").rglob("*.b2nd"))
    cache = parts(plan)["cache"]
    assert cache.value == pytest.approx(stored, rel=0.01)  # all five cases were tried
    assert cache.low == cache.high
    one = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoints" / "step-000008").iterdir())
    assert parts(plan)["checkpoints"].value == pytest.approx(2 * one, rel=0.05)  # two are written in all
    weights = (tmp_path / "run" / "weights" / "model.safetensors").stat().st_size
    assert parts(plan)["weights"].value == pytest.approx(weights, abs=20e3)


def test_what_a_fine_tuning_would_refuse_is_refused(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lacks 25 of 50 cases"):
        plan_finetuning(task_settings(labelled, tmp_path / "run", "task.missing=refuse"), 20.0, lambda text: None)
    override = "task.classes=[{name: spleen, values: 1}]"
    with pytest.raises(DataError, match="Label values that no class of the task btcv has"):
        plan_finetuning(task_settings(labelled, tmp_path / "run", override), 20.0, lambda text: None)
    assert list(tmp_path.iterdir()) == []


def test_label_maps_on_disk_by_hand(labelled: Path, tmp_path: Path) -> None:
    packed = task_settings(labelled, tmp_path)
    plain = task_settings(labelled, tmp_path, "predict.suffix=.nii")
    wide = task_settings(labelled, tmp_path, "predict.suffix=.nii", "task.classes=[{name: a, values: 300}]")
    found = [label_map_bytes((1000, 200), one) for one in (packed, plain, wide)]
    assert [one.value for one in found] == [30, 1200, 2400]
    assert [one.high for one in found] == [300, 1200, 2400]


def test_how_often_each_set_is_drawn_is_noted() -> None:
    """Of 12 scans in batches of 2, each of two sets has half of the draws; a single set needs no note."""
    names = ["here"] * 9 + ["there"] * 3
    entries = [Entry(image=Path(f"{n}.nii.gz"), patient=str(n), data_set=name) for n, name in enumerate(names)]
    settings = load_settings("debug", None, ["data.mix=equal", "train.batch_size=2"]).settings
    assert drawn_sets(entries, settings) == (
        "Draws of scans by set in an epoch (data.mix equal): here 6 (of 9), there 6 (of 3).",
    )
    assert drawn_sets(entries[:9], settings) == ()
