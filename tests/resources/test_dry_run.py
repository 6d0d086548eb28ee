"""A dry run measures the run that it stands for, leaves nothing behind, and touches no run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import body_hu, write_nifti
from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.finetune.tiny_task import make_data
from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from tests.tasks.made_run import make_run
from tests.tasks.made_task import write_task
from voco_cli.config import Resolved, load_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError
from voco_cli.predict.predictor import Trained, load_trained
from voco_cli.resources import dry_run
from voco_cli.resources.amounts import Plan
from voco_cli.resources.dry_run import dry_finetuning, dry_prediction, dry_pretraining
from voco_cli.resources.plan import ESTIMATES, plan_finetuning, plan_pretraining
from voco_cli.training.callbacks import Callback

MEMORY_FACTOR = 1.5
"""An estimate of memory is as near as this to what was measured."""


class Heard(Callback):
    """Remembers what is about to run, and what was warned of."""

    def __init__(self) -> None:
        self.warned: list[str] = []
        self.is_prepared: list[object] = []

    def warn(self, text: str, style: str | None = None) -> None:
        self.warned.append(text)

    def prepared(self, prepared: object) -> None:
        self.is_prepared.append(prepared)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest() for path in files}


def pretraining(data: Path, run: Path, *override: str) -> Resolved:
    return load_settings("debug", None, (*TINY, *override), {"data.file": data, "run.dir": run})


def finetuning(data: Path, run: Path, *override: str) -> Resolved:
    flags = {"data.root": data, "run.dir": run}
    return load_settings(None, None, (*TINY_TASK, *override), flags, task="btcv")


def amounts(plan: Plan) -> dict[str, float]:
    """Bytes by the name of what takes them."""
    return {part.name: part.amount.value for one in plan.needs for part in one.parts}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), 8, 2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("task") / "BTCV")


def test_a_pre_training_is_measured_and_as_it_was_estimated(data: Path) -> None:
    resolved, before, heard = pretraining(data, data.parent / "run"), content(data.parent), Heard()
    measured = dry_pretraining(resolved, heard)
    assert content(data.parent) == before
    assert [path for path in data.parent.iterdir() if path.name.startswith(".")] == []
    assert {part.amount.known for part in measured.times} == {"measured"}
    assert [part.name for part in measured.times] == ["start", "cache", "steps", "validations", "checkpoints"]
    assert measured.times[2].amount.value == pytest.approx(12 * np.median(measured.figures["step_s"][1:]))
    assert len(measured.figures["step_s"]) == 3
    assert "Of 3 steps that ran, the first took" in measured.notes[-1]
    assert ESTIMATES not in measured.notes
    (prepared,) = heard.is_prepared
    assert prepared.folder == data.parent / "run"  # type: ignore[attr-defined]

    estimated = plan_pretraining(resolved.settings, 20.0, lambda text: None)
    one, other = amounts(estimated), amounts(measured)
    for name in ("cache", "checkpoints", "weights"):
        assert one[name] == pytest.approx(other[name], rel=0.1), name
    # The process of the tests may be larger than that of a run.
    assert one["training"] < MEMORY_FACTOR * other["training"]


def test_a_cache_that_is_there_is_read_and_a_run_folder_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    override = (f"cache.dir={tmp_path / 'cache'}", "train.steps=8")
    tiny_run(data, tmp_path / "run", *override)
    before = content(tmp_path)
    plan = dry_pretraining(pretraining(data, tmp_path / "run", *override), Heard())
    assert content(tmp_path) == before
    assert "The cache holds every scan already." in plan.notes
    assert plan.figures["due"]["steps"] == 0  # the run is done
    with pytest.raises(UsageError, match="seed"):
        dry_pretraining(pretraining(data, tmp_path / "run", *override, "seed=3"), Heard())


def test_a_run_that_fails_leaves_nothing_either(tmp_path: Path) -> None:
    for image in (data := write_data(tmp_path, 3, 1)).parent.rglob("*.nii.gz"):
        image.write_bytes(image.read_bytes()[:1000])
    before = content(tmp_path)
    with pytest.raises(DataError, match="None of the 3 training scans"):
        dry_pretraining(pretraining(data, tmp_path / "run"), Heard())
    assert content(tmp_path) == before


def test_a_fine_tuning_is_measured_to_its_end(labelled: Path, tmp_path: Path) -> None:
    resolved = finetuning(labelled, tmp_path / "run", "task.cases=2")
    measured = dry_finetuning(resolved, Heard())
    assert list(tmp_path.iterdir()) == []
    assert [part.name for part in measured.times] == [
        "start",
        "cache",
        "looking at labels",
        "steps",
        "validations",
        "checkpoints",
        "predicting and measuring at the end",
    ]
    assert {part.amount.known for part in measured.times} == {"measured"}
    assert measured.figures["training_cases"] == 2
    estimated = plan_finetuning(resolved.settings, 20.0, lambda text: None)
    one, other = amounts(estimated), amounts(measured)
    assert one["cache"] == pytest.approx(other["cache"], rel=0.1)
    assert one["checkpoints"] == pytest.approx(other["checkpoints"], rel=0.1)
    assert one["training"] < MEMORY_FACTOR * other["training"]


@pytest.mark.parametrize("task", ["brats21", "cc_ccii"])
def test_several_channels_and_categories_are_measured_too(task: str, tmp_path: Path) -> None:
    """The list that the short run reads has their channels and their categories."""
    size: tuple[str, ...] = ()
    if task == "cc_ccii":
        data = write_task(tmp_path / "data", task, training=6, validation=3, test=3, shape_xyz=(32, 32, 32))
        size = ("preprocess.resize_vox=32x32x32",)
    else:
        data = make_data(tmp_path / "data", task)
    before = content(tmp_path)
    flags = {"data.root": data, "run.dir": tmp_path / "run"}
    resolved = load_settings(None, None, (*TINY_TASK, *size), flags, task=task)
    measured = dry_finetuning(resolved, Heard())
    assert content(tmp_path) == before
    names = [part.name for part in measured.times]
    assert names[-1] == "predicting and measuring at the end"
    assert ("looking at labels" in names) is (task == "brats21")
    estimated = plan_finetuning(resolved.settings, 20.0, lambda text: None)
    assert [part.name for part in estimated.times] == names
    assert content(tmp_path) == before


def made_scans(folder: Path) -> tuple[Path, Path]:
    """A run folder of a fine-tuning, and two scans."""
    scans = folder / "scans"
    scans.mkdir()
    for name, shape in {"small": (20, 18, 14), "large": (40, 30, 20)}.items():
        write_nifti(scans / f"{name}.nii.gz", body_hu(shape), np.diag([2.0, 2.0, 2.0, 1.0]))
    return make_run(folder / "run"), scans


def test_a_prediction_is_measured_on_its_largest_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, scans = made_scans(tmp_path)
    before = content(tmp_path)
    plan = dry_prediction(load_trained(run), [scans], tmp_path / "out")
    assert content(tmp_path) == before
    assert not (tmp_path / "out").exists()
    factor = (20 * 18 * 14 + 40 * 30 * 20) / (40 * 30 * 20)
    (predicting,) = plan.times
    assert predicting.amount.value == pytest.approx(factor * plan.figures["case_s"])
    assert plan.notes[-1].startswith("large was predicted in ")
    assert {need.total.known for need in plan.needs} == {"measured"}

    monkeypatch.setattr(dry_run, "_predict_one", lambda trained, entry, folder: "it is damaged.")
    with pytest.raises(DataError, match="large cannot be predicted: it is damaged"):
        dry_prediction(load_trained(run), [scans], tmp_path / "out")


def test_a_damaged_scan_gives_way_to_the_next_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, scans = made_scans(tmp_path)
    predict = dry_run._predict_one

    def damaged(trained: Trained, entry: Entry, folder: Path) -> str | None:
        return "it is damaged." if entry.name == "large" else predict(trained, entry, folder)

    monkeypatch.setattr(dry_run, "_predict_one", damaged)
    plan = dry_prediction(load_trained(run), [scans], tmp_path / "out")
    assert plan.notes[0] == "large cannot be predicted: it is damaged."
    assert plan.notes[1].startswith("small was predicted in ")


def test_several_processes_are_not_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--dry-run measures one process"):
        dry_pretraining(pretraining(data, data.parent / "run"), Heard())
