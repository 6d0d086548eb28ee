"""A run of classification from its table to its figures: what validation said is what evaluation finds."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.tasks.made_categories import NAMES, SIZE, make_entries
from voco_cli.config import load_settings
from voco_cli.data.parallel import Runner
from voco_cli.data.shards import MergedOutcomes, Shard, ShardOutcomes, ShardPart
from voco_cli.errors import DataError
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.predict import classification
from voco_cli.training.callbacks import Callback
from voco_cli.training.loggers import read_metrics
from voco_cli.workflows.evaluate import measure, measured_split, open_run, options_of
from voco_cli.workflows.finetune import run_finetuning

CATEGORIES = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
PRESET: dict[str, Any] = {
    "task": {
        "name": "made",
        "kind": "classification",
        "layouts": [{"image": "images/{case}.npy"}],
        "table": "labels.csv",
        "classes": [{"name": name, "values": 10 + n} for n, name in enumerate(NAMES)],
    },
    "preprocess": {"window_hu": [0, 255], "foreground_above": None, "resize_vox": list(SIZE)},
    "model": {"backbone": "unet", "feature_size": 2, "levels": 3},
    "train": {"steps": 6, "batch_size": 3, "lr": 0.01, "checkpoint_every": 3, "validate_every": 3, "log_every": 3},
    "run": {"device": "cpu", "threads": 1},
    "data": {"workers": 0},
    "cache": {"workers": 1},
}


@dataclass(frozen=True)
class Done:
    data: Path
    run: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished run of six steps; two scans of each category validate, nobody is tested."""
    folder = tmp_path_factory.mktemp("run")
    entries = make_entries(folder / "data" / "images", CATEGORIES)
    with (folder / "data" / "labels.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["case", "patient", "label", "split"])
        for n, entry in enumerate(entries):
            table.writerow([entry.name, entry.patient, 10 + CATEGORIES[n], "val" if n < 6 else "train"])
    task = folder / "made.yaml"
    task.write_text(yaml.safe_dump(PRESET))
    flags = {"data.root": folder / "data", "run.dir": folder / "run"}
    run_finetuning(load_settings(task=str(task), flags=flags), Callback())
    return Done(folder / "data", folder / "run")


def test_the_evaluation_finds_what_validation_said(done: Done) -> None:
    about = json.loads((done.run / "weights" / "model.json").read_text())
    summary = json.loads((done.run / "evaluation" / "validation" / "summary.json").read_text())
    said = next(
        line
        for line in read_metrics(done.run / "metrics.jsonl")
        if line["split"] == "validation" and line["step"] == about["step"]
    )
    assert (summary["cases"], summary["patients"], summary["split"]) == (6, 6, "validation")
    for name in ("auc", "accuracy", "balanced_accuracy", "f1"):
        assert summary["overall"][name]["value"] == pytest.approx(said[name], abs=1e-9)
    assert "of 2 validations by AUC" in summary["chosen"] == about["chosen"]
    assert summary["leakage"]["found"] == []


def test_what_was_classified_is_not_computed_again(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    original = classification.classify_scan
    monkeypatch.setattr(
        classification, "classify_scan", lambda trained, entry: computed.append(entry.name) or original(trained, entry)
    )
    run = open_run(done.run)
    split, entries = measured_split(run)
    options = EvaluationOptions(resamples=150, seed=4)
    measured = measure(run, split, entries, options, output=done.run / "again")
    assert isinstance(measured.evaluation, ClassificationEvaluation)
    summary = measured.evaluation.summary
    assert (computed, summary.resamples, summary.seed) == ([], 150, 4)
    cases = (done.run / "evaluation" / "validation" / "cases.csv").read_bytes()
    assert (done.run / "again" / "cases.csv").read_bytes() == cases


def test_a_scan_that_cannot_be_read_any_more_is_named_and_left_out(done: Done) -> None:
    run = open_run(done.run)
    split, entries = measured_split(run)
    broken = entries[0].model_copy(update={"image": done.data / "broken.npy"})
    broken.image.write_bytes(b"no array")
    measured = measure(run, split, [broken, *entries[1:]], options_of(run.settings), output=done.run / "broken")
    assert isinstance(measured.evaluation, ClassificationEvaluation)
    assert [case for case, _ in measured.evaluation.failed] == [broken.name]
    assert measured.evaluation.summary.cases == len(entries) - 1
    with pytest.raises(DataError, match="None of the 1 validation cases could be predicted"):
        measure(run, split, [broken], options_of(run.settings), output=done.run / "nothing")


def test_the_table_decides_who_trains(done: Done) -> None:
    rows = list(csv.DictReader((done.run / "evaluation" / "validation" / "cases.csv").read_text().splitlines()))
    assert [row["category"] for row in rows] == [NAMES[category] for category in CATEGORIES[:6]]
    probabilities = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)


def test_shards_put_together_are_the_evaluation_of_one_process(done: Done, tmp_path: Path) -> None:
    run = open_run(done.run)
    split, entries = measured_split(run)
    options, table = EvaluationOptions(resamples=100), run.predictions(split) / "probabilities.csv"
    measure(run, split, entries, options, output=tmp_path / "whole")
    probabilities = table.read_bytes()
    shutil.rmtree(table.parent)
    parts = [ShardPart(Shard(number, 2), ("evaluate",), (), "") for number in (1, 2)]
    for number, part in enumerate(parts):
        runner = Runner(outcomes=ShardOutcomes(tmp_path / f"{number}.json", part))
        measured = measure(run, split, entries, options, output=tmp_path / "merged", runner=runner)
        assert (measured.written, table.exists(), (tmp_path / "merged").exists()) == ((), False, False)
    merged = Runner(outcomes=MergedOutcomes(tmp_path / "merged", parts))
    measure(run, split, entries, options, output=tmp_path / "merged", runner=merged)
    assert table.read_bytes() == probabilities
    for name in ("cases.csv", "summary.json", "table.md"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
