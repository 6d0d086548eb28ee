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


def test_a_list_s_own_split_is_kept_and_said_and_one_set_of_labels_is_a_line(tmp_path: Path) -> None:
    root, data = tmp_path / "Task", str(tmp_path / "data.json")
    for i in range(4):
        write_nifti(root / "imagesTr" / f"p{i}.nii.gz", numbers(start=i))
        write_nifti(root / "labelsTr" / f"p{i}.nii.gz", (numbers() % 2 == 0).astype("uint8"))
    pairs = [{"image": f"imagesTr/p{i}.nii.gz", "label": f"labelsTr/p{i}.nii.gz"} for i in range(4)]
    lists = {"training": pairs[:2], "validation": pairs[2:3], "test": pairs[3:]}
    raw = {"modality": "CT", "labels": {"0": "background", "1": "liver", "2": "spleen"}, **lists}
    (root / "dataset.json").write_text(json.dumps(raw))
    shown = CliRunner().invoke(app, [str(root), "-o", data])
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.output.split())
    assert (
        "Task/dataset.json holds out 1 for validation and 1 for test: kept; index the folder of its images to split"
        in said
    )
    assert "2 classes of label set Task" in said
    assert "labelled by" not in said
    assert "training 2 (2 patients), validation 1 (1 patients), test 1 (1 patients)" in said
    kept = CliRunner().invoke(app, [str(root), "-o", str(tmp_path / "kept.json"), "--validation", "0"])
    assert "validation 1 (1 patients), test 1 (1 patients)" in " ".join(kept.output.split())
    anew = CliRunner().invoke(app, [str(root / "imagesTr"), "-o", str(tmp_path / "other.json")])
    assert anew.exit_code == 0, anew.output
    assert "holds out" not in anew.output
    assert "test 0 (0 patients)" in " ".join(anew.output.split())


def test_which_set_labels_what_and_what_does_not_agree(tmp_path: Path) -> None:
    for site, names in (("here", {"left kidney": 1, "right kidney": 2}), ("there", {"kidney": 1})):
        write_nifti(tmp_path / site / "imagesTr" / f"{site}.nii.gz", numbers(start=len(site)))
        write_nifti(tmp_path / site / "labelsTr" / f"{site}.nii.gz", (numbers() % 2 == 0).astype("uint8"))
        (tmp_path / site / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **names}}))
    sites, data = [str(tmp_path / "here"), str(tmp_path / "there")], str(tmp_path / "data.json")
    shown = CliRunner().invoke(app, [*sites, "-o", data, "--modality", "CT"])
    assert shown.exit_code == 0, shown.output
    assert "classes of 2 label sets" in shown.stdout
    said = " ".join(shown.output.split())
    assert "warning: there labels kidney, and here left kidney and right kidney: they are learned as classes" in said
    (tmp_path / "map.yaml").write_text("unions: {kidney: [left kidney, right kidney]}")
    mapped = CliRunner().invoke(
        app, [*sites, "-o", data, "--modality", "CT", "--class-map", str(tmp_path / "map.yaml")]
    )
    assert "labels kidney" not in mapped.output
    rows = [" ".join(line.replace("│", " ").split()) for line in mapped.stdout.splitlines()]
    assert "kidney 2 here, there left kidney, right kidney" in rows
    told = CliRunner().invoke(app, [*sites, "-o", data, "--modality", "CT", "--json"])
    assert json.loads(told.stdout)["classes"] == ["left kidney", "right kidney", "kidney"]
    assert len(json.loads(told.stdout)["class_notes"]) == 1
