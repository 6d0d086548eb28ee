"""`voco evaluate` as a command: table, JSON, exit codes by the errors."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluate.made_results import two_boxes, write_labels
from tests.finetune.made_finetuned import finetuned_run, know_the_network, write_case
from voco_cli.cli.evaluate import evaluate
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, training_scans, write_manifest
from voco_cli.document.terminal import out
from voco_cli.errors import DataError, UsageError, VocoError

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for case, shift in (("a", 0), ("b", 1), ("c[1]", 0)):
        write_labels(tmp_path / "pred" / f"{case}.nii.gz", two_boxes(shift, second=case != "c[1]"))
        write_labels(tmp_path / "labelsTr" / f"{case}.nii.gz", two_boxes())
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "[tail]"}}))
    return [
        "--predictions",
        str(tmp_path / "pred"),
        "--labels",
        str(tmp_path / "labelsTr"),
        "-o",
        str(tmp_path / "out"),
    ]


def test_table_and_files(arguments: list[str], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [*arguments, "--regions", "both=1,2"])
    assert shown.exit_code == 0, shown.output
    assert f"Classes of {tmp_path / 'dataset.json'}" in shown.stdout
    for words in ("liver", "[tail]", "both (region)", "0.917 ± 0.144", "[0.750, 1.000]"):
        assert words in " ".join(shown.stdout.split()), shown.stdout
    assert "3 cases of 3 patients, in each scan's own grid" in shown.stdout
    assert "Missed structures: 1, false positives: 0. Rule for empty ones (count)" in shown.stdout
    assert f"wrote {tmp_path / 'out' / 'summary.json'}" in shown.stdout
    assert "next: voco compare" in shown.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cases.csv", "summary.json", "table.md"}


def test_predictions_whose_values_have_other_names_are_refused(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "pred" / "labels.json").write_text(json.dumps({"labels": {"1": "heart", "2": "liver"}}))
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, DataError)
    assert "labels.json gives 'liver' the value 2, and" in shown.exception.message
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "labelsTr" / "a.json").write_text(json.dumps({"1": "liver"}))  # as TotalSegmentator names them
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, DataError)
    assert "a.json gives 'liver' the value 1, and" in shown.exception.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("width", [80, 100, 110, 160])
def test_no_word_and_no_figure_of_the_table_is_broken(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """A column of figures is left out before the name of a structure, or an interval, loses its end."""
    monkeypatch.setattr(out, "width", width)
    named = ["--classes", "gastroesophageal junction=1,tail=2"]
    shown = CliRunner().invoke(app, [*arguments, *named]).stdout.split("3 cases of 3 patients")[0]
    assert "gastroesophageal" in shown
    assert "0.917 ± 0.144" in shown
    assert "[0.750, 1.000]" in shown
    assert ("IoU" in shown) == (width >= 110)


def test_json_is_all_of_stdout(arguments: list[str]) -> None:
    options = ["--json", "--classes", "liver=1", "--empty", "perfect", "--tolerance-mm", "1"]
    shown = CliRunner().invoke(app, [*arguments, *options])
    found = json.loads(shown.stdout)
    assert [one["name"] for one in found["structures"]] == ["liver"]
    assert found["tolerance_mm"] == 1
    assert found["unlisted_labels"] == {"2": 3}
    assert found["structures"][0]["metrics"]["dice"]["mean"] == pytest.approx(2.75 / 3)


def test_failures_are_told_at_the_end(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "pred" / "b.nii.gz").write_bytes(b"no image")
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, DataError)
    assert shown.exception.exit_code == 3
    assert "1 of 3 cases could not be measured" in shown.exception.message
    assert "b: " in shown.stderr
    assert "Not measured: b." in shown.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["failed"][0]["case"] == "b"


def test_labels_without_a_prediction(arguments: list[str], tmp_path: Path) -> None:
    write_labels(tmp_path / "labelsTr" / "unseen.nii.gz", two_boxes())
    shown = CliRunner().invoke(app, arguments)
    assert "Labels without a prediction, not counted: 1 (unseen)" in shown.stdout
    refused = CliRunner().invoke(app, [*arguments, "--require-all"])
    assert isinstance(refused.exception, UsageError)
    assert "no prediction of unseen" in refused.exception.message


def test_predictions_without_a_label_are_refused(arguments: list[str], tmp_path: Path) -> None:
    write_labels(tmp_path / "pred" / "extra.nii.gz", two_boxes())
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, UsageError)
    assert "extra.nii.gz has no label map" in shown.exception.message
    assert not (tmp_path / "out").exists()


def test_wrong_options(arguments: list[str]) -> None:
    for options, message in (
        (["--empty", "none"], "is no rule"),
        (["--regions", "x"], "no name with labels"),
        (["--regions", "liver=1,2"], "more than once"),
        (["--classes", "none.json"], "cannot be read"),
    ):
        shown = CliRunner().invoke(app, [*arguments, *options])
        assert message in str(shown.exception)


def test_a_dataset_file_of_something_else_is_only_noted(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "note: classes are not named" in shown.stderr


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fine-tuning run with two test cases, the labels of the second one voxel further than what is predicted."""
    know_the_network(monkeypatch)
    test = [write_case(tmp_path / "data", "a"), write_case(tmp_path / "data", "b", shift=1)]
    made = finetuned_run(tmp_path / "run", test=test, validation=[write_case(tmp_path / "data", "v")])
    trained = training_scans("fine-tuning", "tiny", [ScanIdentity("t", "patient b", "0" * 32)])
    write_manifest(TrainingManifest((trained,)), made / "weights" / "seen.json")
    return made


def test_a_run_is_predicted_and_measured(run: Path) -> None:
    shown = CliRunner().invoke(app, [str(run)])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "spleen 2 0 0 0.875 ± 0.177" in words  # Dice 1 and 2 * 48 / 128
    assert f"Measured on the test split of {run}; its weights: weights of step 7, the best of 3 validations." in words
    assert "1 of 2 evaluated cases had a patient of the same name in the fine-tuning (tiny): b." in words
    assert f"next: voco compare {run} OTHER_RUN" in shown.stdout
    assert (run / "evaluation" / "test" / "table.md").is_file()


def test_split_and_options_of_a_run(run: Path, tmp_path: Path) -> None:
    options = [
        "--split",
        "validation",
        "--empty",
        "perfect",
        "--tolerance-mm",
        "1",
        "--resamples",
        "100",
        "--seed",
        "3",
    ]
    shown = CliRunner().invoke(app, [str(run), *options, "-o", str(tmp_path / "out"), "--json"])
    found = json.loads(shown.stdout)
    assert (found["split"], found["cases"], found["tolerance_mm"]) == ("validation", 1, 1)
    assert (found["empty_rule"]["name"], found["interval"]["seed"]) == ("perfect", 3)
    assert found["leakage"]["clean"] is True
    assert (tmp_path / "out" / "cases.csv").is_file()


def test_clean_is_required_of_a_run(run: Path) -> None:
    shown = CliRunner().invoke(app, [str(run), "--require-clean"])
    assert isinstance(shown.exception, VocoError)
    assert shown.exception.exit_code == 1
    assert "patient of the same name" in shown.exception.message
    assert CliRunner().invoke(app, [str(run), "--split", "validation", "--require-clean"]).exit_code == 0
    (run / "weights" / "seen.json").unlink()
    unknown = CliRunner().invoke(app, [str(run), "--split", "validation", "--require-clean"])
    assert "cannot be ruled out" in str(unknown.exception)


def test_a_run_or_folders_and_nothing_between(run: Path, arguments: list[str]) -> None:
    for given, message in (
        ([], "neither a run nor predictions with labels"),
        (arguments[:2], "neither a run nor predictions with labels"),
        ([str(run), *arguments], "--predictions and --labels cannot be given with a run"),
        ([str(run), "--require-all"], "--require-all cannot be given with a run"),
        ([*arguments, "--split", "test"], "--split cannot be given with folders"),
        ([*arguments, "--require-clean"], "--require-clean cannot be given with folders"),
    ):
        shown = CliRunner().invoke(app, given)
        assert isinstance(shown.exception, UsageError), given
        assert message in shown.exception.message


def test_bad_folders_in_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for at, message in ((1, "empty holds no label maps"), (3, "empty holds no label maps")):
        given = [*arguments]
        given[at] = str(tmp_path / "empty")
        shown = CliRunner().invoke(app, given)
        assert message in shown.exception.message
    write_labels(tmp_path / "pred" / "a.nii.gz", two_boxes(), spacing_mm=(1, 1, 3))
    write_labels(tmp_path / "pred" / "b.nii.gz", two_boxes()[:10])
    shown = CliRunner().invoke(app, arguments)
    words = " ".join(shown.stderr.split())
    assert "a: " in words
    assert "lies on another grid than its label: voxels are up to 7.00 mm apart" in words  # 7 slices of 1 mm more
    assert "has 10x10x8 voxels, and its label 14x10x8" in words


def test_labels_outside_the_classes_are_told(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app, [*arguments, "--classes", "liver=1"])
    assert "Label values outside the classes, taken as background: 2 (3 cases)." in shown.stdout
