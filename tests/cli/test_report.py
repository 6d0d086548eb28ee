"""`voco report` as a command: where it writes, what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.report.made_runs import finetuning_run, pretraining_run
from voco_cli.cli.report import report
from voco_cli.errors import DataError, UsageError, VocoError

app = typer.Typer()
app.command()(report)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_one_run_is_written_into_its_folder(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    shown = call(run)
    assert shown.exit_code == 0, shown.output
    assert f"wrote {run / 'report.html'}" in shown.stdout
    assert f"next: open {run / 'report.html'} in a browser" in shown.stdout
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_several_are_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pretraining_run(tmp_path / "a")
    finetuning_run(tmp_path / "b")
    shown = call("a", "b", "--json")
    found = json.loads(shown.stdout)
    assert found["report"] == "report.html"
    assert found["bytes"] == (tmp_path / "report.html").stat().st_size
    assert [(one["name"], one["kind"], one["status"]) for one in found["runs"]] == [
        ("a", "pre-training", "done"),
        ("b", "fine-tuning, segmentation", "done"),
    ]


def test_a_file_of_choice(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    assert call(run, "-o", tmp_path / "new" / "page.html").exit_code == 0
    assert (tmp_path / "new" / "page.html").is_file()
    assert not (run / "report.html").exists()


def refused(*arguments: str | Path) -> VocoError:
    error = call(*arguments).exception
    assert isinstance(error, VocoError)
    return error


def test_wrong_folders_and_files_are_refused(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    assert isinstance(refused(tmp_path / "nowhere"), DataError)
    assert isinstance(refused(tmp_path), UsageError)
    assert refused(run, "-o", tmp_path).hint == f"name the file: -o {tmp_path / 'report.html'}"
    assert refused(run, "-o", tmp_path / "page.pdf").message.endswith("page.pdf does not end like a page.")
    (run / "settings.yaml").write_text("settings: [")
    assert refused(run).exit_code == 3
    assert not (run / "report.html").exists()


def test_names_that_no_page_and_no_disk_can_hold(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    assert "cannot be written: File name too long" in refused(run, "-o", tmp_path / f"{'x' * 300}.html").message
    odd = pretraining_run(tmp_path / "run\udcff")  # a byte that is no text
    assert call(odd, "-o", tmp_path / "odd.html").exit_code == 0
    assert '<h1 id="run-1">run\\udcff</h1>' in (tmp_path / "odd.html").read_text()
