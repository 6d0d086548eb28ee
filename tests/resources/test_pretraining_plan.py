"""The plan of the smallest pre-training, against that run, and on machines that are too small."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.disk_space import SPARE_BYTES
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, ResourceError, UsageError
from voco_cli.resources import plan as pretraining_plan
from voco_cli.resources import plan as training
from voco_cli.resources import sampling
from voco_cli.resources.estimates import Need, Plan
from voco_cli.resources.plan import plan_pretraining
from voco_cli.resources.sampling import Sample
from voco_cli.resources.subprocess_trial import Outcome, TooLargeError

Usage = namedtuple("Usage", "total used free")
CASES = (16, 4)
SAMPLED = 12


def settings_of(data: Path, run: Path, *override: str) -> Settings:
    return load_settings("debug", None, (*TINY, *override), {"data.file": data, "run.dir": run}).settings


def make_plan(data: Path, run: Path, *override: str, budget_s: float = 20.0) -> Plan:
    return plan_pretraining(settings_of(data, run, *override), budget_s, lambda text: None)


def need(plan: Plan, kind: str, where: str = "") -> Need:
    return next(one for one in plan.needs if one.kind == kind and one.where.startswith(where))


def parts(plan: Plan) -> dict[str, float]:
    return {part.name: part.amount.value for part in need(plan, "disk").parts}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), *CASES)


Made = tuple[Plan, sampling.SampledRun, training.Tried]


@pytest.fixture(scope="module")
def made(data: Path) -> Made:
    """A plan, the sample and the trial that it was made of."""
    kept: list[Any] = []

    def keep(subject: str, settings: Settings, run: Any, tried: Any, extra: Any) -> Plan:
        kept.extend((run, tried))
        return training.training_plan(subject, settings, run, tried, extra)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_plan, "training_plan", keep)
        plan = make_plan(data, data.parent / "run")
    return plan, kept[0], kept[1]


@pytest.fixture
def plan(made: Made) -> Plan:
    return made[0]


@pytest.fixture
def tried(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans use the trial of the first one, which takes its time."""
    monkeypatch.setattr(pretraining_plan, "try_steps", lambda *arguments: made[2])


@pytest.fixture
def sampled(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans use the sample of the first one."""
    monkeypatch.setattr(pretraining_plan, "sample_run", lambda *arguments: made[1])
    monkeypatch.setattr(pretraining_plan, "_usable", lambda run, settings: (run, ()))


def test_cache_and_checkpoints_are_those_of_the_run(data: Path, plan: Plan, tmp_path: Path) -> None:
    assert not (data.parent / "run").exists()
    assert sorted(path.name for path in data.parent.iterdir()) == ["data.json", "imagesTr"]
    tiny_run(data, tmp_path / "run", f"cache.dir={tmp_path / 'cache'}")
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.b2nd"))
    assert parts(plan)["cache"] == pytest.approx(stored, rel=0.05)
    cache = need(plan, "disk").parts[0].amount
    assert abs(stored - cache.value) <= 2 * (cache.high - cache.value)  # four standard errors
    checkpoints = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    one = sum(path.stat().st_size for path in checkpoints[-1].iterdir())
    assert parts(plan)["checkpoints"] == pytest.approx(4 * one, rel=0.01)  # two, the best, and one being written
    weights = (tmp_path / "run" / "weights" / "encoder.safetensors").stat().st_size
    assert parts(plan)["weights"] == pytest.approx(weights, abs=10e3)


def test_the_plan_says_what_it_measured(plan: Plan) -> None:
    assert plan.fits
    assert [part.name for part in plan.times] == ["start", "cache", "steps", "validations", "checkpoints"]
    assert all(part.amount.known == "measured" for part in plan.times)
    trial = plan.figures["trial"]
    step_s = sorted(trial["steps"]["step_s"])
    steps = next(part.amount for part in plan.times if part.name == "steps")
    assert 12 * step_s[0] <= steps.low <= steps.value <= steps.high <= 12 * step_s[-1]
    assert plan.figures["missing_in_cache"] == sum(CASES)
    assert len(plan.figures["sample"]) == SAMPLED
    assert plan.figures["due"] == {"steps": 12, "validations": 2, "checkpoints": 3, "most_checkpoints": 4}
    memory = need(plan, "memory", "training")
    assert 200e6 < memory.needed_bytes == trial["steps"]["host_bytes"] < 2e9
    json.dumps(plan.to_json())


@pytest.mark.usefixtures("tried")
def test_a_full_cache_and_a_started_run_are_taken_into_account(data: Path, tmp_path: Path) -> None:
    override = (f"cache.dir={tmp_path / 'cache'}", "train.steps=8", "train.validate_every=100")
    tiny_run(data, tmp_path / "run", *override)
    (tmp_path / "run" / "checkpoints" / "step-000008").rename(tmp_path / "run" / "checkpoints" / "step-000003")
    plan = make_plan(data, tmp_path / "run", *override)
    assert "cache" not in parts(plan)
    assert plan.figures["due"]["steps"] == 4  # the last checkpoint is that of step 4
    assert "The run folder holds step 4; what is left from there is planned." in plan.notes
    assert "The cache holds every scan already." in plan.notes


@pytest.mark.usefixtures("tried", "sampled")
def test_a_small_disk_does_not_fit_and_the_plan_says_what_to_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voco_cli.resources.plan.shutil.disk_usage", lambda path: Usage(10**9, 0, SPARE_BYTES + 50_000))
    plan = make_plan(data, tmp_path / "run")
    disk = need(plan, "disk")
    assert (disk.free_bytes, disk.fits, plan.fits) == (50_000, False, False)
    assert plan.advice[0].startswith("Free ")
    assert any("--set cache.dir=FOLDER" in one for one in plan.advice)
    assert any("-o FOLDER" in one for one in plan.advice)


def test_what_would_take_most_of_the_memory_is_not_tried(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops of 320^3 voxels with 64 channels: 2 x 18 crops of 75 GB."""
    override = ("preprocess.resize_vox=1280x1280x320", "crops.grid=4x4", "crops.size=320x320x320")
    more = ("model.feature_size=64", "model.checkpointing=off")
    monkeypatch.setattr(pretraining_plan, "sample_run", _stored_sample)
    monkeypatch.setattr(pretraining_plan, "_usable", lambda sampled, settings: (sampled, ()))
    plan = make_plan(data, tmp_path / "run", *override, *more)
    memory = need(plan, "memory", "training")
    activations = 36 * 64 * 320**3 * 36
    assert memory.needed_bytes > activations
    assert (memory.fits, memory.known, plan.times) == (False, "estimated", ())
    assert "Not measured: no step was tried, as it would have taken most of the free memory." in plan.notes
    assert any("--set model.checkpointing=on" in one for one in plan.advice)


def _stored_sample(
    cases: sampling.RunCases, order: Sequence[Entry], seed: int, folder: Path, budget_s: float, tell: Any
) -> sampling.SampledRun:
    """A sample of scans as they are, without the preprocessing that would make them huge."""
    cache = VolumeCache(folder / "cache", Settings().preprocess, Settings().cache)
    plain = sampling.RunCases(cases.training, cases.held_out, cache)
    cache.build(order[:2], workers=1)
    stored = tuple(one for entry in order[:2] if (one := plain.stored(entry)) is not None)
    return sampling.SampledRun(cases, (), (), None, stored)


@pytest.mark.usefixtures("sampled")
def test_a_trial_that_was_stopped_does_not_fit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(work: object, request: object) -> None:
        raise TooLargeError(int(5e9))

    monkeypatch.setattr(training, "run_apart", stopped)
    plan = make_plan(data, tmp_path / "run")
    memory = need(plan, "memory", "training")
    assert (memory.fits, memory.at_least, memory.needed_bytes) == (False, True, 5e9)
    assert "Not measured: the steps were stopped before they had taken all memory." in plan.notes
    assert plan.advice


def test_a_gpu_that_ran_out_of_memory(made: Made, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GB were free; the host's memory is enough."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(8e9), int(8e9)))
    settings, (_, run, tried) = settings_of(data, tmp_path / "run", "model.checkpointing=off"), made
    assert tried.trial is not None
    footprint = replace(tried.trial.footprint, device_bytes=int(9e9))
    trial = replace(tried.trial, device="cuda:0", free_device_bytes=int(8e9), footprint=footprint, steps=None)
    out = replace(tried, trial=replace(trial, exhausted=True))
    plan = training.training_plan("pre-training", settings, run, out, training.Extra())
    device = need(plan, "GPU memory", "cuda:0")
    assert (device.needed_bytes, device.at_least, device.fits, plan.times) == (8e9, True, False, ())
    assert "Not measured: the steps did not fit into the memory of cuda:0." in plan.notes
    assert any("train.batch_size=1" in one for one in plan.advice)
    fitting = replace(tried, trial=replace(trial, steps=replace(tried.trial.steps, device_bytes=int(7e9))))
    plan = training.training_plan("pre-training", settings, run, fitting, training.Extra())
    assert (need(plan, "GPU memory").needed_bytes, plan.fits) == (7e9, True)


def test_preprocessing_that_was_stopped_or_failed_does_not_fit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter((TooLargeError(int(5e9)), ResourceError("The disk is full: x.", "free some space")))

    def failing(work: object, request: object) -> None:
        raise next(errors)

    monkeypatch.setattr(sampling, "run_apart", failing)
    plan = make_plan(data, tmp_path / "run")
    memory = need(plan, "memory", "building")
    assert (plan.fits, memory.at_least, memory.needed_bytes, plan.times) == (False, True, 5e9, ())
    assert parts(plan)["cache"] == 20 * 48 * 48 * 24 / 1.9  # cautious, as nothing was compressed
    plan = make_plan(data, tmp_path / "run")
    assert (plan.fits, plan.obstacles, plan.advice) == (False, ("The disk is full: x.",), ("free some space",))


def test_scans_too_large_for_the_memory_do_not_fit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample((), (("phantom_001", "MemoryError: Unable to allocate 29.8 GiB"),))
    monkeypatch.setattr(sampling, "run_apart", lambda work, request: Outcome(sample, 1.0))
    plan = make_plan(data, tmp_path / "run")
    told = "Preprocessing phantom_001 takes more memory than there is (Unable to allocate 29.8 GiB)."
    assert (plan.fits, plan.obstacles, plan.times) == (False, (told,), ())


def test_days_on_a_processor_are_told(made: Made, data: Path, tmp_path: Path) -> None:
    _, run, tried = made
    for steps, told in ((12, False), (100_000_000, True)):
        settings = settings_of(data, tmp_path / "run", f"train.steps={steps}")
        plan = training.training_plan("pre-training", settings, run, tried, training.Extra())
        assert (training.ON_A_PROCESSOR in plan.notes) is told


def test_scans_that_cannot_be_used_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"None of the .* large enough after preprocessing; .* the grid needs 96x96x24"
    ):
        make_plan(data, tmp_path / "run", "preprocess.resize_vox=null", "crops.grid=4x4")
    with pytest.raises(UsageError, match="A step needs 99 different scans"):
        make_plan(data, tmp_path / "run", "train.batch_size=99")
    for image in (broken := write_data(tmp_path / "broken", 3, 1)).parent.rglob("*.nii.gz"):
        image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(DataError, match="None of the 4 scans that were tried can be used; phantom_001"):
        make_plan(broken, tmp_path / "run")
