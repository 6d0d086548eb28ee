"""The plan of the smallest fine-tuning, against that run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.finetune.tiny_task import TINY, make_data, tiny_finetune
from voco_cli.config import Settings, load_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError
from voco_cli.resources.plan import _order, label_map_bytes, plan_finetuning


def settings_of(data: Path, run: Path, *override: str) -> Settings:
    flags = {"data.root": data, "run.dir": run}
    return load_settings(None, None, (*TINY, *override), flags, task="btcv").settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("task") / "BTCV")


def test_a_plan_and_its_run(data: Path, tmp_path: Path) -> None:
    plan = plan_finetuning(settings_of(data, tmp_path / "run"), 20.0, lambda text: None)
    assert list(tmp_path.iterdir()) == []
    assert plan.fits
    assert plan.subject == "fine-tuning of btcv"
    names = [part.name for part in plan.times]
    assert names == [
        "start",
        "cache",
        "looking at labels",
        "steps",
        "validations",
        "checkpoints",
        "predicting and measuring at the end",
    ]
    disk = {part.name: part.amount for part in plan.needs[0].parts}
    tiny_finetune(data, tmp_path / "run")
    stored = sum(path.stat().st_size for path in (tmp_path / ".voco-cache").rglob("*.b2nd"))
    assert disk["cache"].value == pytest.approx(stored, rel=0.01)  # all five cases were sampled
    assert disk["cache"].low == disk["cache"].high
    one = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoints" / "step-000008").iterdir())
    assert disk["checkpoints"].value == pytest.approx(2 * one, rel=0.03)  # two are written in all
    weights = (tmp_path / "run" / "weights" / "model.safetensors").stat().st_size
    assert disk["weights"].value == pytest.approx(weights, abs=20e3)


def test_what_the_run_would_refuse_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lacks 25 of 50 cases"):
        plan_finetuning(settings_of(data, tmp_path / "run", "task.missing=refuse"), 20.0, lambda text: None)
    override = "task.classes=[{name: spleen, values: 1}]"
    with pytest.raises(DataError, match="Label values that no class of the task btcv has"):
        plan_finetuning(settings_of(data, tmp_path / "run", override), 20.0, lambda text: None)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_of_a_classification_shows_its_categories_in_turn() -> None:
    entries = [Entry(image=Path(f"{n}.nii"), patient=str(n), category="rare" if n == 7 else "common") for n in range(9)]
    ordered = _order(entries, Settings())
    assert {entry.category for entry in ordered[:2]} == {"rare", "common"}
    assert {entry.patient for entry in ordered} == {entry.patient for entry in entries}


def test_label_maps_on_disk_by_hand(data: Path, tmp_path: Path) -> None:
    packed = settings_of(data, tmp_path)
    plain = settings_of(data, tmp_path, "predict.suffix=.nii")
    wide = settings_of(data, tmp_path, "predict.suffix=.nii", "task.classes=[{name: a, values: 300}]")
    found = [label_map_bytes((1000, 200), one) for one in (packed, plain, wide)]
    assert [one.value for one in found] == [30, 1200, 2400]
    assert [one.high for one in found] == [300, 1200, 2400]
