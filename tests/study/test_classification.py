"""A study of classifications: known probabilities first, then real runs on tiny scans."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.evaluate.made_scores import made_scores
from tests.study.made_study import Heard, Result, weights_file
from tests.tasks.made_categories import NAMES, SIZE, make_entries
from voco_cli.config import Resolved, Settings, read_saved
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.errors import UsageError
from voco_cli.evaluate.classification.compare import compare_classifications
from voco_cli.evaluate.classification.results import (
    ClassificationEvaluation,
)
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.study.plan import StudyPlan, make_plan
from voco_cli.tasks.find_data import TaskData
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import run_finetuning
from voco_cli.workflows.study import StudyResult, run_study

PRESET: dict[str, Any] = {
    "task": {
        "name": "made",
        "kind": "classification",
        "layouts": [{"image": "images/{case}.npy"}],
        "table": "labels.csv",
        "classes": [{"name": name, "values": 10 + n} for n, name in enumerate(NAMES[:2])],
        "split": "seeded",
        "test_patients": 4,
        "validation_patients": 2,
    },
    "preprocess": {"window_hu": [0, 255], "foreground_above": None, "resize_vox": list(SIZE)},
    "model": {"backbone": "unet", "feature_size": 2, "levels": 3},
    "train": {"steps": 2, "batch_size": 2, "checkpoint_every": 2, "validate_every": 2, "log_every": 2},
    "evaluate": {"resamples": 200},
    "run": {"device": "cpu", "threads": 1, "keep_memory": False},
    "data": {"workers": 0},
    "cache": {"workers": 1},
}
TRUTH = [0, 1] * 5


def plan(
    folder: Path, weights: list[str], sizes: tuple[int, ...], seeds: int, *overrides: str, **flags: Any
) -> StudyPlan:
    preset = folder / "made.yaml"
    preset.write_text(yaml.safe_dump(PRESET))
    flags = {"task.choose": "last", **flags}
    return make_plan(folder / "study", str(preset), weights, sizes, seeds, overrides=overrides, flags=flags)


def find(sick: int = 10) -> Any:
    """20 cases to train on, so many of them sick, and ten to test on."""

    def entry(name: str, category: int) -> Entry:
        return Entry(image=Path(f"/scans/{name}.npy"), patient=name, case=name, category=NAMES[category])

    def found(settings: Settings) -> TaskData:
        training = tuple(entry(f"t{n:02d}", int(n < sick)) for n in range(20))
        test = tuple(entry(f"c{n}", truth) for n, truth in enumerate(TRUTH))
        return TaskData(Datalist(name="made", training=training, test=test), "a folder", "a split")

    return found


def stand_in(resolved: Resolved) -> Result:
    """With weights every case is told; without, of the ten cases every second pair of neighbours is mixed up."""
    settings = resolved.settings
    good = settings.model.weights is not None
    scores = [0.1 + 0.01 * n + (0.5 if truth and (good or n % 4 == 1) else 0) for n, truth in enumerate(TRUTH)]
    scored = made_scores(TRUTH, [[1 - p, p] for p in scores])
    folder = settings.run.dir / "evaluation" / "test"
    ClassificationEvaluation(scored, EvaluationOptions(resamples=100)).write(folder)
    return Result(folder)


def test_auc_of_each_run_and_the_difference(tmp_path: Path) -> None:
    result = run_study(plan(tmp_path, [weights_file(tmp_path)], (4, 8), 2), Heard(), finetune=stand_in, find=find())
    # Without weights c1 c5 c9 are above all; c3 at .13 is above c0 c2 (.10 .12), c7 at .17 above c0 c2 c4 c6.
    expected = (3 * 5 + 2 + 4) / 25
    stored = json.loads((tmp_path / "study" / "study.json").read_text())
    assert stored["metric"] == "auc"
    assert [one["score"] for one in stored["runs"]] == pytest.approx([expected, expected, 1, 1] * 2)
    assert [one["difference"] for one in stored["differences"]] == pytest.approx([1 - expected] * 2)
    assert [one["structure"] for one in stored["differences_by_structure"]] == ["pneumonia"]
    page = (tmp_path / "study" / "study.md").read_text()
    assert "AUC ± sd over seeds [95 %]" in page
    assert "| 4 | none | 2 | 0.840 ± 0.000 [" in page
    assert "## By category, with the most labelled cases" in page
    assert "AUC of pneumonia. The weights are those of the last step" in page
    assert "permutation test in which two arms exchange whole patients" in page
    assert result.outcome.excluded == ()


def test_too_few_cases_for_two_categories_are_refused_before_any_run(tmp_path: Path) -> None:
    asked = plan(tmp_path, [], (1, 8), 1)
    with pytest.raises(UsageError, match="With 1 labelled case and seed 0 there is only the category"):
        run_study(asked, Heard(), finetune=stand_in, find=find())
    asked = plan(tmp_path, [], (3,), 1)
    with pytest.raises(UsageError, match="With 3 labelled cases and seed 0 there is only the category normal"):
        run_study(asked, Heard(), finetune=stand_in, find=find(sick=1))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """Fourteen scans; encoders from weights stay as they are."""
    folder = tmp_path_factory.mktemp("study")
    categories = [0, 1] * 7
    entries = make_entries(folder / "data" / "images", categories)
    with (folder / "data" / "labels.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["case", "patient", "label"])
        table.writerows((entry.name, entry.patient, 10 + c) for entry, c in zip(entries, categories, strict=True))
    data = {"data.root": folder / "data"}
    first = plan(folder, [], (4,), 1, **data)
    run_study(first, Heard(), finetune=lambda resolved: run_finetuning(resolved, Callback()))
    weights = folder / "weights"
    (folder / "study").rename(weights)
    asked = plan(folder, [str(weights / "none" / "n004-seed0")], (4,), 2, "task.freeze_encoder=true", **data)
    return folder / "study", run_study(asked, Heard(), finetune=lambda resolved: run_finetuning(resolved, Callback()))


def test_every_run_is_done_on_a_split_with_both_categories(real: tuple[Path, StudyResult]) -> None:
    folder, result = real
    assert [run.status for run in result.record.runs.values()] == ["done"] * 4
    datalist = read_datalist(folder / "data.json")
    assert sorted(entry.category or "" for entry in datalist.test) == [*[NAMES[0]] * 2, *[NAMES[1]] * 2]
    for run in result.record.runs.values():
        summary = json.loads((folder / str(run.evaluation) / "summary.json").read_text())
        assert run.score == pytest.approx(summary["overall"]["auc"]["value"])


def test_differences_are_those_of_compare(real: tuple[Path, StudyResult]) -> None:
    folder, result = real
    found = result.outcome.found
    assert found is not None
    (gain,) = found.gains
    for seed, difference in zip(gain.seeds, gain.seed_differences, strict=True):
        places = [folder / arm / f"n004-seed{seed}" / "evaluation" / "test" for arm in ("none", gain.run)]
        compared = compare_classifications(["a", "b"], [read_results(place).table for place in places], 100)
        assert difference == pytest.approx(compared.differences[0].difference)


def test_the_arm_without_weights_trains_its_encoder_and_that_is_said(real: tuple[Path, StudyResult]) -> None:
    folder, result = real
    (name,) = (arm for arm in result.record.arms if arm != "none")
    saved = [read_saved(folder / arm / "n004-seed0" / "settings.yaml") for arm in ("none", name)]
    assert [settings.task.freeze_encoder for settings in saved] == [False, True]
    assert f"The encoder of {name} stays as it is loaded (task.freeze_encoder)" in (folder / "study.md").read_text()
    assert np.isfinite([run.score or np.nan for run in result.record.runs.values()]).all()
