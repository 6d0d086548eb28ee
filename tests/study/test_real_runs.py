"""A study of real fine-tuning runs on tiny scans: bright balls with a core."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.study.made_study import Heard
from tests.tasks.made_balls import PRESET, write_balls
from voco_cli.config import Resolved
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.segmentation.compare import compare_tables
from voco_cli.study.plan import PretrainingPlan, make_plan
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import run_finetuning
from voco_cli.workflows.pretrain import run_pretraining
from voco_cli.workflows.study import Finetuned, StudyResult, run_study


def train(resolved: Resolved) -> Finetuned:
    return run_finetuning(resolved, Callback())


def never(resolved: Resolved) -> Finetuned:
    raise AssertionError(f"{resolved.settings.run.dir} is finished")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine scans, and the preset beside them."""
    root = tmp_path_factory.mktemp("study")
    write_balls(root / "data", background=60, step=70, noise=10)
    (root / "balls.yaml").write_text(PRESET)
    return root


@pytest.fixture(scope="module")
def result(folder: Path) -> StudyResult:
    """Weights are those that a first study has left."""
    first = make_plan(folder / "first", str(folder / "balls.yaml"), [], [3], 1, flags=flags(folder))
    run_study(first, Heard(), finetune=train)
    return study(folder, train)


def flags(folder: Path) -> dict[str, object]:
    return {"data.root": folder / "data", "task.choose": "last"}


def study(folder: Path, train: object) -> StudyResult:
    weights = str(folder / "first" / "none" / "n003-seed0")
    plan = make_plan(folder / "study", str(folder / "balls.yaml"), [weights], [2, 3], 2, flags=flags(folder))
    return run_study(plan, Heard(), finetune=train)  # type: ignore[arg-type]


def training(folder: Path, place: str) -> set[str]:
    return {entry.name for entry in read_datalist(folder / "study" / place / "data.json").training}


def test_every_run_is_done_and_measured_on_the_same_cases(folder: Path, result: StudyResult) -> None:
    assert [run.status for run in result.record.runs.values()] == ["done"] * 8
    tested = {entry.name for entry in read_datalist(folder / "study" / "data.json").test}
    assert len(tested) == 3
    for run in result.record.runs.values():
        table = read_results(folder / "study" / str(run.evaluation)).table
        assert set(table.cases) == tested
        # Both classes are in every case, so that the mean of the cases' means is the mean of all.
        assert run.score == pytest.approx(float(np.mean(table.of_metric("dice"))))
    assert result.outcome.excluded == ()


def test_subsets_are_nested_shared_by_the_arms_and_drawn_by_the_seed(folder: Path, result: StudyResult) -> None:
    (name,) = (arm for arm in result.record.arms if arm != "none")
    for seed in (0, 1):
        small, large = (training(folder, f"none/n00{n}-seed{seed}") for n in (2, 3))
        assert len(small) == 2
        assert small < large
        assert [training(folder, f"{name}/n00{n}-seed{seed}") for n in (2, 3)] == [small, large]
    assert training(folder, "none/n003-seed0") != training(folder, "none/n003-seed1")


def test_volumes_are_prepared_once_for_all_runs(folder: Path, result: StudyResult) -> None:
    assert [path.parent for path in (folder / "study").rglob(".voco-cache")] == [folder / "study"]


def test_differences_are_those_of_compare(folder: Path, result: StudyResult) -> None:
    found = result.outcome.found
    assert found is not None
    for gain in found.gains:
        for seed, difference in zip(gain.seeds, gain.seed_differences, strict=True):
            places = [folder / "study" / arm / f"n00{gain.labelled}-seed{seed}" for arm in ("none", gain.run)]
            tables = [read_results(place / "evaluation" / "test").table for place in places]
            compared = compare_tables(["none", gain.run], tables, resamples=100)
            overall = next(one for one in compared.of_metric("dice") if one.part is None)
            assert difference == pytest.approx(overall.difference)


def test_the_same_call_trains_nothing_again(folder: Path, result: StudyResult) -> None:
    again = study(folder, never)
    assert again.record.runs == result.record.runs


def test_pretrainings_of_its_own_start_the_runs_and_are_found_again(folder: Path) -> None:
    own = PretrainingPlan(minutes=None, steps=2, config=folder / "pretrain.yaml")
    (folder / "pretrain.yaml").write_text("model: {projector_hidden: [8], projector_out: 8}\n")
    objectives = ["voco", "voco:voco", "none+"]
    plan = make_plan(
        folder / "objectives",
        str(folder / "balls.yaml"),
        [],
        [2],
        1,
        objectives=objectives,
        pretraining=own,
        flags=flags(folder),
    )
    result = run_study(plan, Heard(), finetune=train, pretrain=lambda one: run_pretraining(one, Callback()))
    found = {run.arm: run for run in result.record.in_order()}
    assert {arm: run.status for arm, run in found.items()} == dict.fromkeys(("none", *objectives), "done")
    assert [found[arm].transferred for arm in ("none", *objectives)] == [None, "encoder", "encoder", None]
    assert found["none+"].steps is not None
    assert found["none+"].steps > 3
    staged = folder / "objectives" / "pretraining" / "voco-then-voco-seed0"
    start = load_file(staged / "stages" / "1-voco" / "weights" / "encoder.safetensors")
    assert not all(map(torch.equal, start.values(), load_file(staged / "weights" / "encoder.safetensors").values()))
    report = json.loads((folder / "objectives" / found["voco"].folder / "weights_report.json").read_text())
    assert report["encoder_share"] == 1.0
    listed = read_datalist(folder / "objectives" / "pretraining" / "data.json")
    tested = {entry.image for entry in read_datalist(folder / "objectives" / "data.json").test}
    assert tested
    assert tested.isdisjoint(entry.image for _, entry in listed.entries())
    assert not result.outcome.leakage
