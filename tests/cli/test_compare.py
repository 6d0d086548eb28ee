"""`voco compare` as a command: tables, files, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluate.made_results import two_boxes, write_labels
from voco_cli.cli.compare import compare
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.result_files import EvaluationOptions, Provenance
from voco_cli.evaluate.segmentation.classes import read_classes
from voco_cli.evaluate.segmentation.evaluate import evaluate_folder
from voco_cli.evaluate.segmentation.metrics import RULES
from voco_cli.foreign_text import visible

app = typer.Typer()
app.command()(compare)
CASES = [f"case{n}" for n in range(6)]


def write(root: Path, name: str, shift: int, options: EvaluationOptions, cases: list[str]) -> Path:
    for case in cases:
        write_labels(root / name / "pred" / f"{case}.nii.gz", two_boxes(shift))
        write_labels(root / "true" / f"{case}.nii.gz", two_boxes())
    classes = read_classes("liver=1,spleen=2").structures
    evaluation = evaluate_folder(root / name / "pred", root / "true", options, classes=classes)
    evaluation.write(root / name / "out", "pred", "true")
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
    assert "+0.250 [+0.250, +0.250] 0.031 0.062 +1.00" in words
    assert "6 cases of 6 patients, paired" in words
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {
        "comparison.json",
        "comparison.md",
        "comparison.png",
    }
    assert "| voco/out | liver | 6 | 0.750 | 1.000 |" in (tmp_path / "comparison" / "comparison.md").read_text()


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    options = EvaluationOptions(resamples=200)
    name = "\x1b[31mred\u202e"
    folders = [write(tmp_path, one, shift, options, ["a\x9b2J", "b", "c"]) for one, shift in (("first", 1), (name, 0))]
    there = tmp_path / "c"
    shown = CliRunner().invoke(app, [*map(str, folders), "-o", str(there), "--resamples", "200"])
    assert shown.exit_code == 0, shown.output
    for text in (shown.output, (there / "comparison.md").read_text(), (folders[0] / "table.md").read_text()):
        assert visible(text) == text
    assert "\\x1b[31mred" in shown.stdout
    assert json.loads((there / "comparison.json").read_text())["runs"][1] == f"{name}/out"


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
    assert "none does not exist" in str(nothing.exception)
    (tmp_path / "empty").mkdir()
    empty = CliRunner().invoke(app, [str(pair[0]), str(tmp_path / "empty")])
    assert "is no evaluation" in str(empty.exception)


def test_an_evaluation_against_itself(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [str(pair[0]), str(pair[0]), "-o", str(tmp_path / "c"), "--json"])
    found = json.loads(shown.stdout)
    assert found["runs"] == ["scratch/out (1)", "scratch/out (2)"]
    assert all(one["difference"] == 0 and one["p"] == 1 for one in found["differences"])


CLEAN = {"clean": True, "found": [], "unknown_weights": [], "sentences": ["Data leakage: none of 6 cases."]}
SEEN = {
    "clean": False,
    "found": [{"by": "scan", "cases": ["case0"]}],
    "unknown_weights": [],
    "sentences": ["Data leakage: 1 of 6 evaluated cases was in the pre-training (big), voxel for voxel: case0."],
}


def write_run(root: Path, name: str, shift: int, splits: dict[str, dict[str, object]]) -> Path:
    """A run folder with evaluations of these splits."""
    for split, leakage in splits.items():
        for case in CASES:
            write_labels(root / f"{name}_{split}" / f"{case}.nii.gz", two_boxes(shift))
            write_labels(root / "true" / f"{case}.nii.gz", two_boxes())
        classes = read_classes("liver=1,spleen=2").structures
        options = EvaluationOptions(resamples=200)
        evaluation = evaluate_folder(root / f"{name}_{split}", root / "true", options, classes=classes)
        provenance = Provenance(name, split, "weights of step 7", leakage)
        evaluation.write(root / name / "evaluation" / split, "pred", "true", provenance)
    (root / name).mkdir(exist_ok=True)
    (root / name / "settings.yaml").write_text("")
    return root / name


def test_runs_are_compared_on_the_split_that_all_have(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "scratch", 1, {"test": CLEAN}), write_run(tmp_path, "voco", 0, {"test": SEEN})]
    shown = CliRunner().invoke(app, [*map(str, runs), "-o", str(tmp_path / "c"), "--resamples", "200"])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "Dice: difference from scratch" in words
    assert "+0.250 [+0.250, +0.250] 0.031 0.062 +1.00" in words
    assert "scratch: Data leakage: none of 6 cases." in words
    assert "voco: Data leakage: 1 of 6 evaluated cases was in the pre-training (big)" in words
    assert "voco: Data leakage: 1 of 6" in (tmp_path / "c" / "comparison.md").read_text()
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert found["evaluations"] == [str(run / "evaluation" / "test") for run in runs]
    assert (found["splits"], found["leakage"]) == (["test", "test"], [CLEAN, SEEN])


def test_clean_is_required_of_all(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    clean = write_run(tmp_path, "scratch_run", 1, {"test": CLEAN})
    seen = write_run(tmp_path, "voco_run", 0, {"test": SEEN})
    options = ["-o", str(tmp_path / "c"), "--require-clean"]
    shown = CliRunner().invoke(app, [str(clean), str(seen), *options])
    assert isinstance(shown.exception, VocoError)
    assert (shown.exception.exit_code, shown.exception.message) == (1, f"voco_run: {SEEN['sentences'][0]}")
    unlooked = CliRunner().invoke(app, [str(clean), str(pair[0]), *options])
    assert "out was evaluated without looking whether" in str(unlooked.exception)
    assert CliRunner().invoke(app, [str(clean), str(clean), *options]).exit_code == 0


def test_runs_of_other_splits_are_refused(tmp_path: Path) -> None:
    tested = write_run(tmp_path, "tested", 1, {"test": CLEAN})
    both = write_run(tmp_path, "both", 0, {"test": CLEAN, "validation": CLEAN})
    validated = write_run(tmp_path, "validated", 0, {"validation": CLEAN})
    nothing = write_run(tmp_path, "nothing", 0, {})
    options = ["-o", str(tmp_path / "c"), "--resamples", "200"]
    for runs, message in (
        ([both, nothing], "nothing was not evaluated."),
        ([tested, validated], "were evaluated on different splits: "),
        ([both, tested, "--split", "validation"], "tested was not evaluated on its validation split"),
        ([tested, validated / "evaluation" / "validation"], "is of its test split and"),
    ):
        shown = CliRunner().invoke(app, [*map(str, runs), *options])
        assert isinstance(shown.exception, VocoError), runs
        assert message in shown.exception.message
    assert CliRunner().invoke(app, [str(both), str(validated), *options]).exit_code == 0


def test_what_cannot_be_compared_is_named_for_what_it_is(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "pre train").mkdir()
    (tmp_path / "pre train" / "settings.yaml").write_text("settings: {task: {preset: null}}\n")
    file = tmp_path / "data.json"
    file.write_text("{}")
    for other, said in (
        (tmp_path / "gone", f"{tmp_path}/gone does not exist."),
        (file, f"{file} is a file, not the folder of an evaluation."),
        (tmp_path / "pre train", f"{tmp_path}/pre train is a pre-training run, which predicts nothing to compare."),
    ):
        shown = CliRunner().invoke(app, [str(pair[0]), str(other)])
        assert isinstance(shown.exception, VocoError)
        assert shown.exception.message == said


def test_the_same_evaluation_twice_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [str(pair[0]), str(pair[0]), "-o", str(tmp_path / "c")])
    assert "scratch/out (1) and scratch/out (2) are the same evaluation: every difference is 0." in shown.stderr
    shown = CliRunner().invoke(app, [*map(str, pair), "-o", str(tmp_path / "c")])
    assert "the same evaluation" not in shown.stderr
