"""What else differs between runs that are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.evaluate.made_results import made_table
from voco_cli.evaluate.segmentation.compare import compare_tables
from voco_cli.workflows.compare import (
    TrainedAs,
    settings_sentences,
    trained_as,
    training_warnings,
    unlike_settings,
)


def run(path: Path, settings: dict[str, Any], training: list[str]) -> Path:
    folder = path / "evaluation" / "test"
    folder.mkdir(parents=True)
    (path / "settings.yaml").write_text(yaml.safe_dump({"settings": settings}, sort_keys=False))
    (path / "data.json").write_text(json.dumps({"training": [{"image": f"{one}.nii.gz"} for one in training]}))
    return folder


def test_settings_steps_and_cases(tmp_path: Path) -> None:
    first = run(tmp_path / "a", {"run": {"dir": "a"}, "train": {"steps": 1000, "lr": 0.1}, "seed": 0}, ["p", "q", "r"])
    other = run(tmp_path / "b", {"run": {"dir": "b"}, "train": {"steps": 500, "lr": 0.1}, "seed": 1}, ["q", "s"])
    trained, names = [trained_as(first), trained_as(other)], ["a", "b"]
    assert unlike_settings(trained) == {"train.steps": [1000, 500], "seed": [0, 1]}
    assert settings_sentences(names, trained) == [
        "Settings that differ (a | b): train.steps (1000 | 500); seed (0 | 1)."
    ]
    assert training_warnings(names, trained) == [
        "Not trained for the same number of steps: a for 1,000, b for 500.",
        "Not trained on the same cases: a on 3, b on 2, of which 1 are the same.",
    ]
    alike = [trained[0], trained[0]]
    assert training_warnings(names, alike) == []
    assert settings_sentences(names, alike) == ["The settings of these runs are the same."]


def test_the_run_of_an_evaluation_elsewhere_is_found_by_its_summary(tmp_path: Path) -> None:
    run(tmp_path / "a", {"seed": 3}, [])
    elsewhere = tmp_path / "x" / "y" / "z"
    elsewhere.mkdir(parents=True)
    (elsewhere / "summary.json").write_text(json.dumps({"run": str(tmp_path / "a")}))
    assert trained_as(elsewhere).settings == {"seed": 3}


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    found = [trained_as(tmp_path / "none" / "of" / "these"), TrainedAs({"seed": 1})]
    assert unlike_settings(found) == {}
    assert training_warnings(["a", "b"], found) == []
    assert settings_sentences(["a", "b"], found) == [
        "Whether these were trained alike is not known: a has no settings of a run beside it."
    ]


def test_a_metric_that_leaves_missed_structures_out_says_how_many_each_side_missed() -> None:
    first = made_table([[5.0, 5.0], [30.0, 5.0], [5.0, 5.0]])
    values = first.values_NCM.copy()
    values[:, :, 3:] = first.values_NCM[:, :, 3:]
    # The other run missed the liver that was hard: its distances are those of the easy two.
    values[1, 0, 3:] = np.nan
    states = list(first.states)
    states[1] = ("missed", "both")
    other = replace(first, values_NCM=values, states=tuple(states))
    found = compare_tables(["a", "b"], [first, other], resamples=100)
    assert list(found.missed) == [
        "HD95 (mm) and ASD (mm) of liver rest on the 2 cases in which both have it: a missed it in 0, b missed it in 1."
    ]
    assert compare_tables(["a", "b"], [first, first], resamples=100).missed == ()
