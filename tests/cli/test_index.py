"""`voco index` as a command: tables for people, JSON for machines, exit codes by the errors."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.data.io.make_files import numbers, write_nifti
from voco_cli.cli.index import index
from voco_cli.errors import UsageError

app = typer.Typer()
app.command()(index)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for i in range(4):
        write_nifti(tmp_path / "scans" / f"p{i}_ct.nii.gz", numbers(start=i))
    write_nifti(tmp_path / "scans" / "p0_ct_seg.nii.gz", (numbers() % 2 == 0).astype("uint8"))
    (tmp_path / "scans" / "readme[1].txt").write_text("hello")
    return tmp_path / "scans"


def test_tables_and_file(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.cli.index.seems_to_have_gpu", lambda: False)
    shown = CliRunner().invoke(app, [str(scans), "-o", str(tmp_path / "data.json")])
    assert shown.exit_code == 0, shown.output
    assert "4 scans of 4 patients, 1 with labels (4 CT)" in shown.stdout
    assert "scans/readme[1].txt: not an image" in " ".join(shown.stdout.replace("│", " ").split())
    data = tmp_path / "data.json"
    assert f"next: voco pretrain {data} --recipe debug, or with the labels: voco tasks new {data}\n" in shown.stdout
    raw = json.loads((tmp_path / "data.json").read_text())
    assert raw["format"] == "voco-data/1"
    assert raw["name"] == "scans"


def test_json_is_all_of_stdout(scans: Path, tmp_path: Path) -> None:
    arguments = [str(scans), "-o", str(tmp_path / "d.json"), "--json", "--check", "full", "--name", "mine"]
    shown = CliRunner().invoke(app, [*arguments, "--validation", "0.5", "--seed", "3"])
    found = json.loads(shown.stdout)
    assert found["name"] == "mine"
    assert found["statistics"]["scans"] == 4
    assert found["skipped_kinds"] == {"not an image": 1}
    assert json.loads((tmp_path / "d.json").read_text())["split"] == {"seed": 3, "validation": 0.5, "test": 0.0}


def test_errors_are_the_family_s(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    nothing = CliRunner().invoke(app, [str(tmp_path / "none"), "-o", str(tmp_path / "d.json")])
    assert isinstance(nothing.exception, UsageError)
    assert not (tmp_path / "d.json").exists()
    nobody = CliRunner().invoke(app, [str(scans), "--validation", "0.6", "--test", "0.4"])
    assert "leave nobody to train on" in str(nobody.exception)
