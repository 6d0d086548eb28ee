"""Pre-trainings of a study by a stand-in: how often each is run, for how long, and what follows for the runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.data.cache.made_scans import oriented_affine, write_nifti
from tests.study.made_study import CASES, PRESET, Heard, Result, StandIn
from voco_cli.config import Resolved, Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.parallel import HERE, Runner
from voco_cli.data.shards import MergedOutcomes, Shard, ShardOutcomes, ShardPart
from voco_cli.errors import DataError, UsageError
from voco_cli.objectives.objective import Verdict
from voco_cli.study.plan import PretrainingPlan, StudyPlan, make_plan
from voco_cli.tasks.find_data import TaskData
from voco_cli.workflows.study import StudyResult, prepare_study, run_study


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.workflows.study_outcome.draw_label_efficiency", lambda found: b"a picture")


@dataclass(frozen=True)
class Trained:
    verdict: Verdict | None = None


def write_metrics(run: Path, steps: int, step_s: float) -> None:
    run.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "split": "train", "loss": 1.0, "compute_s": step_s} for step in range(1, steps + 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "state.json").write_text(json.dumps({"status": "done", "step": steps}))


@dataclass
class Pretrainer:
    """A step of voco takes 0.5 s, one of rotation 0.25 s."""

    called: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, resolved: Resolved) -> Trained:
        from voco_cli.config.stages import stage_runs

        stages = [stage.settings for stage in stage_runs(resolved)]
        for settings in stages:
            step_s = 0.5 if "voco" in settings.objective.active() else 0.25
            write_metrics(settings.run.dir, settings.train.steps, step_s)
        self.called.append((resolved.settings.run.dir.name, tuple(one.train.steps for one in stages)))
        return Trained(Verdict("learned", "It has learned."))

    @property
    def trained(self) -> list[tuple[str, tuple[int, ...]]]:
        """Calls that were no trials."""
        return [one for one in self.called if one[0] != ".trial"]


class Finetuner(StandIn):
    """Takes 0.1 s a step, and notes the steps."""

    def __init__(self) -> None:
        super().__init__(lambda settings: 0.5 + 0.1 * (settings.model.weights is not None))
        self.steps: dict[str, int] = {}

    def __call__(self, resolved: Resolved) -> Result:
        settings = resolved.settings
        result = super().__call__(resolved)
        self.steps[self.called[-1]] = settings.train.steps
        write_metrics(settings.run.dir, settings.train.steps, 0.1)
        return result


@pytest.fixture
def data(tmp_path: Path) -> TaskData:
    """Six scans of 24 x 24 x 24 voxels of 2 mm that are there, and cases to test on that need not be."""
    import numpy as np

    affine = oriented_affine("RAS", (2.0, 2.0, 2.0))
    entries = []
    for number in range(6):
        path = tmp_path / "scans" / f"train{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        voxels = np.random.default_rng(number).integers(-100, 200, (24, 24, 24)).astype(np.int16)
        write_nifti(path, voxels, affine)
        write_nifti(path.with_name(f"label{number}.nii.gz"), (voxels > 0).astype(np.uint8), affine)
        label = path.with_name(f"label{number}.nii.gz")
        entries.append(Entry(image=path, label=label, patient=str(number), modality="CT"))
    test = tuple(
        Entry(image=Path(f"/no/case{i}.nii.gz"), label=Path(f"/no/l{i}.nii.gz"), patient=f"t{i}", case=f"case{i}")
        for i in range(CASES)
    )
    return TaskData(Datalist(name="tiny", modality="CT", training=tuple(entries), test=test), "a folder", "a split")


def plan(folder: Path, objectives: Sequence[str], budget: PretrainingPlan, seeds: int = 2) -> StudyPlan:
    preset = folder / "tiny.yaml"
    preset.write_text(PRESET + "train: {steps: 100}\ncache: {workers: 1}\n")
    overrides = ("preprocess.foreground_above=null", "evaluate.resamples=100")
    return make_plan(
        folder / "study",
        str(preset),
        [],
        [2, 4],
        seeds,
        objectives=objectives,
        pretraining=budget,
        overrides=overrides,
    )


def run(
    asked: StudyPlan, data: TaskData, finetune: Any, pretrain: Any, runner: Runner = HERE, own: Any = None
) -> StudyResult:
    def find(settings: Settings) -> TaskData:
        return data

    return run_study(asked, Heard(), finetune=finetune, pretrain=pretrain, find=find, runner=runner, own=own)


def stored(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "study" / "study.json").read_text()))


def test_each_pretraining_gets_the_same_time_once_a_seed(tmp_path: Path, data: TaskData) -> None:
    config = tmp_path / "crops.yaml"
    config.write_text("crops: {grid: [2, 2], size: [12, 12, 12]}\n")
    pretrain, finetune = Pretrainer(), Finetuner()
    budget = PretrainingPlan(minutes=0.5, config=config)
    result = run(plan(tmp_path, ["voco", "rotation", "voco:rotation", "none+"], budget), data, finetune, pretrain)
    of_seed = [("voco", (60,)), ("rotation", (120,)), ("voco-then-rotation", (30, 60))]
    wanted = [(f"{arm}-seed{seed}", steps) for seed in (0, 1) for arm, steps in of_seed]
    assert sorted(pretrain.trained) == sorted(wanted)
    found = stored(tmp_path)
    assert found["step_s"] == {"voco": [0.5], "rotation": [0.25], "voco:rotation": [0.5, 0.25]}
    assert {one["train_s"] for one in found["pretrainings"]} == {30.0}
    assert {one["verdict"] for one in found["pretrainings"]} == {"learned"}
    # 100 steps take 10 s from scratch, and 30 s of pre-training 300 more.
    assert {run: steps for run, steps in finetune.steps.items() if steps != 100} == {
        f"none+/n{n:03d}-seed{seed}": 400 for n in (2, 4) for seed in (0, 1)
    }
    assert finetune.called.index("none+/n002-seed0") > finetune.called.index("rotation/n004-seed0")
    costs = {one["arm"]: one for one in found["costs"]}
    assert (costs["voco"]["pretraining_s"], costs["voco"]["finetuning_s"]) == (30.0, 10.0)
    assert (costs["none+"]["pretraining_s"], costs["none+"]["finetuning_s"]) == (None, 40.0)
    assert costs["none+"]["finetuning_steps"] == 400
    assert [one.run for one in result.outcome.to_longer if one.labelled == 2] == ["voco", "rotation", "voco:rotation"]
    assert [one.difference for one in result.outcome.to_longer] == pytest.approx([0.1] * 6)
    assert "2 labelled cases: voco is higher than none+ (+0.100 [+0.100, +0.100])." in found["conclusions"]


def test_a_second_call_trains_nothing_again(tmp_path: Path, data: TaskData) -> None:
    asked = plan(tmp_path, ["voco", "none+"], PretrainingPlan(minutes=0.5), seeds=1)
    run(asked, data, Finetuner(), Pretrainer())
    pretrain, finetune = Pretrainer(), Finetuner()
    run(asked, data, finetune, pretrain)
    assert (pretrain.called, finetune.called) == ([], [])
    more = plan(tmp_path, ["voco", "none+"], PretrainingPlan(minutes=0.5), seeds=2)
    run(more, data, finetune, pretrain)
    assert pretrain.called == [("voco-seed1", (60,))]  # steps are not measured again


def test_equal_steps_in_place_of_time(tmp_path: Path, data: TaskData) -> None:
    pretrain = Pretrainer()
    budget = PretrainingPlan(minutes=None, steps=9)
    run(plan(tmp_path, ["voco", "voco:voco"], budget, seeds=1), data, Finetuner(), pretrain)
    assert pretrain.called == [("voco-seed0", (9,)), ("voco-then-voco-seed0", (4, 5))]


def test_other_pretrainings_are_refused_in_the_same_folder(tmp_path: Path, data: TaskData) -> None:
    run(plan(tmp_path, ["voco"], PretrainingPlan(minutes=None, steps=2), seeds=1), data, Finetuner(), Pretrainer())
    other = plan(tmp_path, ["voco"], PretrainingPlan(minutes=None, steps=3), seeds=1)
    with pytest.raises(UsageError, match=r"was started with other pre-trainings:\n  steps: 2 -> 3"):
        run(other, data, Finetuner(), Pretrainer())


def test_a_pretraining_that_fails_fails_its_runs_and_the_others_go_on(tmp_path: Path, data: TaskData) -> None:
    def fail(resolved: Resolved) -> Trained:
        raise DataError("The loss became nan at step 3.")

    asked = plan(tmp_path, ["voco", "none+"], PretrainingPlan(minutes=None, steps=2), seeds=1)
    run(asked, data, Finetuner(), fail)
    runs = {one["folder"]: (one["status"], one["reason"]) for one in stored(tmp_path)["runs"]}
    assert runs["none/n002-seed0"] == ("done", None)
    assert runs["voco/n002-seed0"] == ("failed", "The loss became nan at step 3.")
    why = "its time follows from none and pre-trainings of seed 0, which have failed."
    assert runs["none+/n002-seed0"] == ("failed", why)


def test_crops_that_do_not_suit_an_objective_are_told_with_what_to_give(tmp_path: Path, data: TaskData) -> None:
    asked = plan(tmp_path, ["rotation"], PretrainingPlan(minutes=None, steps=2), seeds=1)
    with pytest.raises(
        UsageError, match=r"The pre-training rotation cannot run: .* needs crops that are cubes"
    ) as told:
        run(asked, data, Finetuner(), Pretrainer())
    assert "--pretrain-config FILE" in str(told.value.hint)


@pytest.mark.parametrize(("objectives", "longer"), [(["voco", "rotation"], False), (["voco", "none+"], True)])
def test_shards_do_each_pretraining_once_and_find_the_same(
    objectives: list[str], longer: bool, tmp_path: Path, data: TaskData
) -> None:
    config = tmp_path / "crops.yaml"
    config.write_text("crops: {grid: [2, 2], size: [12, 12, 12]}\n")
    asked = plan(tmp_path, objectives, PretrainingPlan(minutes=0.5, config=config))
    pretrain, whole = Pretrainer(), Finetuner()
    run(asked, data, whole, pretrain)
    before, trained = stored(tmp_path), sorted(pretrain.trained)
    shutil.rmtree(tmp_path / "study")

    pretrain, finetune = Pretrainer(), Finetuner()
    prepare_study(asked, Heard(), pretrain=pretrain, find=lambda settings: data)
    parts, shares = [], []
    for number in (3, 1, 2):
        part = ShardPart(Shard(number, 3), ("study",), (), str(tmp_path))
        runner = Runner(outcomes=ShardOutcomes(tmp_path / f"{number}-of-3.json", part))
        own = [one for runs in runner.share(list(asked.units().values())) for one in runs]
        shares.append(len({(one.seed, one.arm.name) for one in own if one.arm.objective is not None}))
        run(asked, data, finetune, pretrain, runner, own)
        parts.append(part)
    assert sorted(pretrain.trained) == trained
    assert finetune.steps == whole.steps
    # Four pre-trainings are dealt to shards 1, 2, 3, 1; with none+ a whole seed is one unit, and shard 3 has none.
    assert shares == ([0, 1, 1] if longer else [1, 2, 1])

    merged = Runner(outcomes=MergedOutcomes(tmp_path / "study", parts))
    run(asked, data, None, None, merged)
    after = stored(tmp_path)
    for one in (*before["runs"], *after["runs"]):
        one.pop("took_s")
    assert after == before
