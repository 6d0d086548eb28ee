"""`voco evaluate` as a command: table, JSON, exit codes by the errors."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.made_results import two_boxes, write_labels
from voco_cli.cli.evaluate import evaluate
from voco_cli.errors import DataError, UsageError

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
    assert "Missed structures: 1, phantom structures: 0. Rule for empty ones (count)" in shown.stdout
    assert f"wrote {tmp_path / 'out' / 'summary.json'}" in shown.stdout
    assert "next: voco compare" in shown.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cases.csv", "summary.json", "table.md"}


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
