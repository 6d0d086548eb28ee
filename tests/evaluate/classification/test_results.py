"""What the evaluation of a classification writes, read back with other means."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.made_scores import made_scores
from voco_cli.errors import DataError
from voco_cli.evaluate.classification.results import (
    ClassificationEvaluation,
    category_rows,
    overall_rows,
    parse_cases_csv,
    statements,
)
from voco_cli.evaluate.classification.table import summarise_classification
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.result_files import EvaluationOptions, Provenance

SCORED = made_scores(
    [0, 1, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.25, 0.75], [0.125, 0.875]], ["p001", "p001", "p002", "p003"]
)


def test_the_three_files(tmp_path: Path) -> None:
    options = EvaluationOptions(resamples=200, seed=5)
    provenance = Provenance("runs/a", "test", "weights of step 3", {"sentences": ["None was seen."]})
    evaluation = ClassificationEvaluation(SCORED, options, (("c9", "it is empty"),), provenance)
    written = evaluation.write(tmp_path / "test")
    assert [path.name for path in written] == ["cases.csv", "table.md", "summary.json"]
    rows = list(csv.DictReader((tmp_path / "test" / "cases.csv").read_text().splitlines()))
    assert rows[2] == {
        "case": "c2",
        "patient": "p002",
        "category": "normal",
        "predicted": "pneumonia",
        "p_normal": "0.25",
        "p_pneumonia": "0.75",
    }
    found = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert (found["format"], found["run"], found["split"]) == ("voco-classification/1", "runs/a", "test")
    assert (found["chosen"], found["leakage"]["sentences"]) == ("weights of step 3", ["None was seen."])
    assert found["failed"] == [{"case": "c9", "reason": "it is empty"}]
    assert found["cases_csv_sha256"] == hashlib.sha256((tmp_path / "test" / "cases.csv").read_bytes()).hexdigest()
    assert found["confusion"]["cases"] == [[1, 1], [1, 1]]
    assert found["overall"]["accuracy"]["value"] == 0.5
    assert found["categories"][1]["metrics"]["auc"]["value"] == 0.75  # .4 .875 against .1 .75
    assert found["interval"]["resampled_by"] == "patient"
    lines = (tmp_path / "test" / "table.md").read_text().splitlines()
    assert lines[-3:] == [
        "Not measured: c9.",
        "Measured on the test split of runs/a; its weights: weights of step 3.",
        "None was seen.",
    ]


def test_what_is_not_defined_is_null_in_json_and_a_dash_in_tables(tmp_path: Path) -> None:
    scored = made_scores([1, 1], [[0.4, 0.6], [0.7, 0.3]])
    evaluation = ClassificationEvaluation(scored, EvaluationOptions(resamples=100))
    summary = evaluation.summary
    evaluation.write(tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["overall"]["auc"] == {"value": None, "low": None, "high": None, "left_out": 100}
    assert overall_rows(summary)[0] == ["AUC", "-"]
    assert category_rows(summary)[0][:4] == ["normal", "0", "1", "-"]
    assert statements(evaluation)[2:] == [
        "No cases of normal.",
        "100 of 100 resamples lack a category and are left out of these means.",
    ]


def test_the_table_says_cases_and_how_intervals_were_made(tmp_path: Path) -> None:
    summary = summarise_classification(SCORED, 200)
    ClassificationEvaluation(SCORED, EvaluationOptions(resamples=200)).write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    estimate = summary.overall["accuracy"]
    assert f"| accuracy | 0.500 [{estimate.low:.3f}, {estimate.high:.3f}] |" in text
    assert "| normal (true) | 1 | 1 |" in text
    assert "4 cases of 3 patients: 2 normal, 2 pneumonia." in text
    assert "200 resamples by patient" in text


@pytest.mark.parametrize(("categories", "words"), [(2, "AUC is that of pneumonia"), (3, "AUC is the mean of each")])
def test_which_auc_is_meant(categories: int, words: str) -> None:
    rows = [[1 / categories] * categories] * 4
    scored = made_scores([0, 1, 0, 1], rows)
    assert statements(ClassificationEvaluation(scored, EvaluationOptions(resamples=100)))[1].startswith(words)


def test_written_and_read(tmp_path: Path) -> None:
    provenance = Provenance("runs/a", "test", "weights of step 3", {"sentences": ["None was seen."]})
    evaluation = ClassificationEvaluation(
        SCORED, EvaluationOptions(resamples=100), (("c9", "it is empty"),), provenance
    )
    evaluation.write(tmp_path)
    stored = read_results(tmp_path)
    assert (stored.folder, stored.failed, stored.split) == (tmp_path, (("c9", "it is empty"),), "test")
    assert stored.leakage == {"sentences": ["None was seen."]}
    table = stored.table
    assert (table.cases, table.patients, table.categories) == (SCORED.cases, SCORED.patients, SCORED.categories)
    np.testing.assert_array_equal(table.truth_N, SCORED.truth_N)
    np.testing.assert_allclose(table.probabilities_NK, SCORED.probabilities_NK, rtol=1e-9)
    assert isinstance(stored, ClassificationEvaluation)
    assert (stored.options.resamples, stored.options.seed) == (100, 0)
    assert stored.headline().startswith("AUC 0.750 [")  # .4 .875 against .1 .75


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    ClassificationEvaluation(SCORED, EvaluationOptions(resamples=100)).write(tmp_path)
    with (tmp_path / "cases.csv").open("a") as file:
        file.write("c7,z,normal,normal,1,0\n")
    with pytest.raises(DataError, match=r"is not the file that summary\.json was made from"):
        read_results(tmp_path)
    (tmp_path / "cases.csv").unlink()
    with pytest.raises(DataError, match=r"is no evaluation: cases\.csv cannot be opened"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["case,patient,category,p_a,p_b"], "columns are case, patient"),
        (["case,patient,category,predicted"], "columns are case, patient"),
        (["c,p,a,a,0.5,0.5", "c,p,a,a,0.5,0.5"], "stands twice"),
        (["c,p,x,a,0.5,0.5"], "'x' is no category"),
        (["c,p,a,a,1.5,0.5"], "not in"),
        (["c,p,a,a,nan,0.5"], "not in"),
        (["c,p,a,a,0.5"], "line 2 has 5 cells, and not 6"),
        (["c,p,a,a,0.5,0.5,7"], "line 2 has 7 cells, and not 6"),
        (["c,p," + 2000 * "x" + ",a,0.5,0.5"], "is no category"),
        (['c,"p,a,a,0.5,0.5', *(300 * ["c,p,a,a,0.5,0.5"])], "the row from line 2 on has a stray quotation mark"),
        (["c,p,a,a,much,0.5"], "'much' is no probability"),
    ],
)
def test_tables_that_make_no_sense(lines: list[str], message: str) -> None:
    head = [] if lines[0].startswith("case") else ["case,patient,category,predicted,p_a,p_b"]
    with pytest.raises(ValueError, match=message) as caught:
        parse_cases_csv("\n".join([*head, *lines]) + "\n")
    assert len(str(caught.value)) < 250
