"""`voco compare` as a command: tables, files, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.made_results import two_boxes, write_labels
from voco_cli.cli.compare import compare
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluation.classes import read_classes
from voco_cli.evaluation.empty import RULES
from voco_cli.evaluation.folder import EvaluationOptions, evaluate_folder
from voco_cli.evaluation.result_folder import write_evaluation

app = typer.Typer()
app.command()(compare)
CASES = [f"case{n}" for n in range(6)]


def write(root: Path, name: str, shift: int, options: EvaluationOptions, cases: list[str]) -> Path:
    for case in cases:
        write_labels(root / name / "pred" / f"{case}.nii.gz", two_boxes(shift))
        write_labels(root / "true" / f"{case}.nii.gz", two_boxes())
    classes = read_classes("liver=1,spleen=2").structures
    evaluation = evaluate_folder(root / name / "pred", root / "true", options, classes=classes)
    write_evaluation(evaluation, root / name / "out", "pred", "true")
    return root / name / "out"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    options = EvaluationOptions(resamples=200)
    return write(tmp_path, "scratch", 1, options, CASES), write(tmp_path, "voco", 0, options, CASES)


def test_tables_and_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [*map(str, pair), "-o", str(tmp_path / "comparison"), "--resamples", "200"])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "Dice: difference from scratch/out" in words
    # 0.75 became 1 in all six: p = 2 / 2^6, and twice that for two classes.
    assert "+0.250 0.031 0.062 +1.00" in words
    assert "6 cases of 6 patients, paired" in words
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {
        "comparison.json",
        "comparison.md",
        "comparison.png",
    }
    assert "| voco/out | liver | 6 | 0.750 | 1.000 |" in (tmp_path / "comparison" / "comparison.md").read_text()


def test_json_is_all_of_stdout(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [*map(str, pair), "-o", str(tmp_path / "c"), "--json", "--metric", "hd95_mm"])
    found = json.loads(shown.stdout)
    assert found == json.loads((tmp_path / "c" / "comparison.json").read_text())
    liver = next(one for one in found["differences"] if one["metric"] == "hd95_mm" and one["structure"] == "liver")
    assert (liver["difference"], liver["effect"]) == (-1, -1)


def test_other_cases_are_refused_and_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path, "other", 0, EvaluationOptions(resamples=200), [*CASES[:5], "case9"])
    shown = CliRunner().invoke(app, [str(pair[0]), str(other), "-o", str(tmp_path / "c")])
    assert isinstance(shown.exception, VocoError)
    assert shown.exception.exit_code == 1
    assert "other/out has no case case5" in shown.exception.message
    assert "scratch/out has no case case9" in shown.exception.message
    assert not (tmp_path / "c").exists()


def test_other_rules_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    options = EvaluationOptions(tolerance_mm=1.0, rule=RULES["released"], resamples=200)
    other = write(tmp_path, "other", 0, options, CASES)
    shown = CliRunner().invoke(app, [str(pair[0]), str(other)])
    assert isinstance(shown.exception, VocoError)
    assert "rule 'released'" in shown.exception.message
    assert "a tolerance of 1 mm" in shown.exception.message


def test_what_is_no_evaluation(pair: tuple[Path, Path], tmp_path: Path) -> None:
    alone = CliRunner().invoke(app, [str(pair[0])])
    assert isinstance(alone.exception, UsageError)
    nothing = CliRunner().invoke(app, [str(pair[0]), str(tmp_path / "none")])
    assert isinstance(nothing.exception, DataError)
    assert "is no evaluation" in str(nothing.exception)


def test_an_evaluation_against_itself(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [str(pair[0]), str(pair[0]), "-o", str(tmp_path / "c"), "--json"])
    found = json.loads(shown.stdout)
    assert found["runs"] == ["scratch/out (1)", "scratch/out (2)"]
    assert all(one["difference"] == 0 and one["p"] == 1 for one in found["differences"])
