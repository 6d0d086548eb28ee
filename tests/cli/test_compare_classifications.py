"""`voco compare` on classifications: tables, files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.cli.test_compare import CASES, CLEAN, SEEN, write
from tests.evaluate.made_scores import made_scores
from voco_cli.cli.compare import compare
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.result_files import EvaluationOptions, Provenance

app = typer.Typer()
app.command()(compare)
TRUTH = [0, 1] * 6
SCRATCH = [0.6, 0.4] * 6  # all wrong, and in the wrong order
VOCO = [0.1, 0.9] * 5 + [0.8, 0.9]  # all right but the last but one


def write_run(
    root: Path,
    name: str,
    scores: Sequence[float],
    truth: Sequence[int] = tuple(TRUTH),
    leakage: dict[str, Any] | None = None,
    split: str = "test",
) -> Path:
    """A run folder with an evaluation, of the probabilities of the second category."""
    scored = made_scores(truth, [[1 - p, p] for p in scores])
    provenance = Provenance(name, split, "weights of step 7", leakage or CLEAN)
    evaluation = ClassificationEvaluation(scored, EvaluationOptions(resamples=100), provenance=provenance)
    evaluation.write(root / name / "evaluation" / split)
    (root / name / "settings.yaml").write_text("")
    return root / name


def call(root: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "-o", str(root / "comparison")])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path, "scratch", SCRATCH), write_run(tmp_path, "voco", VOCO, leakage=SEEN)


def test_tables_and_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = call(tmp_path, *pair)
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "Difference from scratch" in words
    # 0 of 12 became 11 of 12, by McNemar 2 / 2^11; all of category 1 are at .9, and the others at .8 at most.
    assert "accuracy 0.000 0.917 +0.917" in words
    assert "AUC 0.000 1.000 +1.000 <0.001" in " ".join(words.replace("[+1.000, +1.000] ", "").split())
    assert "McNemar's exact test for accuracy" in words
    assert "0 cases right in both, 11 only in voco, 0 only in scratch, 1 in neither; 11 changed category." in words
    assert "1 more changed category, all in comparison.md." in words
    assert "voco: Data leakage: 1 of 6 evaluated cases" in words
    folder = tmp_path / "comparison"
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "comparison.md", "comparison.png"}
    page = (folder / "comparison.md").read_text()
    assert "| voco | accuracy | 0.000 | 0.917 | +0.917 [" in page
    assert "| voco | c0 | normal | pneumonia | normal | 0.400 to 0.900 | now right |" in page


def test_json_is_all_of_stdout(pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = json.loads(call(tmp_path, *pair, "--json", "--seed", "4").stdout)
    assert found == json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert (found["format"], found["splits"]) == ("voco-classification-comparison/1", ["test", "test"])
    assert found["evaluations"] == [str(run / "evaluation" / "test") for run in pair]
    assert found["interval"] == {"level": 0.95, "resamples": 2000, "seed": 4, "resampled_by": "patient"}
    accuracy = next(one for one in found["differences"] if one["metric"] == "accuracy")
    assert (accuracy["test"], accuracy["p"]) == ("McNemar", pytest.approx(2 / 2**11))
    assert len(found["changed_category"]) == 11


def test_three_runs_have_a_column_of_names(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = call(tmp_path, *pair, write_run(tmp_path, "third", VOCO))
    assert shown.exit_code == 0, shown.output
    assert "third and scratch: 0 cases right in both" in " ".join(shown.stdout.split())


def test_other_cases_and_categories_are_refused_and_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    fewer = write_run(tmp_path, "fewer", VOCO[:11], TRUTH[:11])
    other = write_run(tmp_path, "other", VOCO, [1, *TRUTH[1:]])
    for run, message in (
        (fewer, "fewer has no case c11"),
        (other, "other has another true category than scratch for case c0"),
    ):
        shown = call(tmp_path, pair[0], run)
        assert isinstance(shown.exception, VocoError)
        assert (shown.exception.exit_code, message in shown.exception.message) == (1, True)
    assert not (tmp_path / "comparison").exists()


def test_a_segmentation_is_no_partner(pair: tuple[Path, Path], tmp_path: Path) -> None:
    segmented = write(tmp_path, "segmented", 0, EvaluationOptions(resamples=100), CASES)
    shown = call(tmp_path, pair[0], segmented)
    assert isinstance(shown.exception, UsageError)
    assert shown.exception.message == "scratch is a classification and out a segmentation, which cannot be compared."


def test_what_is_of_segmentations_only_or_not_clean_or_of_another_split(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    validated = write_run(tmp_path, "validated", VOCO, split="validation")
    for arguments, kind, message in (
        ((*pair, "--metric", "dice"), UsageError, "--metric dice is no metric of classifications"),
        ((*pair, "--require-clean"), VocoError, "voco: Data leakage: 1 of 6"),
        ((pair[0], validated), UsageError, "were evaluated on different splits"),
        ((pair[0], validated / "evaluation" / "validation"), VocoError, "scratch is of its test split and"),
    ):
        shown = call(tmp_path, *arguments)
        assert isinstance(shown.exception, kind)
        assert message in shown.exception.message
    (pair[0] / "evaluation" / "test" / "cases.csv").write_text("")
    assert isinstance(call(tmp_path, *pair).exception, DataError)
