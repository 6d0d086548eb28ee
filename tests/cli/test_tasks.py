"""`voco tasks` as commands: tables, JSON, exit codes, what to run next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.tasks.made_task import write_task
from voco_cli.cli.tasks import app
from voco_cli.config import load_settings, task_names
from voco_cli.errors import UsageError, VocoError

SMALL = (32, 32, 12)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOCO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_list_names_every_task() -> None:
    shown = run("list")
    assert shown.exit_code == 0
    for name in task_names():
        assert name in words(shown)
    assert "24/6/20*" in words(shown)
    assert "next: voco tasks show btcv" in words(shown)
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert (rows["btcv"]["training"], rows["btcv"]["validation"], rows["btcv"]["test"]) == (24, 6, 20)
    assert rows["word"]["test_labelled"]
    assert rows["brats21"]["folds"] == 5


@pytest.mark.parametrize("name", task_names())
def test_show_says_where_the_data_is_to_be_had(name: str) -> None:
    shown = words(run("show", name))
    task = load_settings(task=name).settings.task
    assert task.title in shown
    assert all(one.name in shown for one in (*task.classes, *task.regions))
    assert " ".join(task.source.split()) in shown
    settings = json.loads(run("show", name, "--json").stdout)
    assert settings["task"]["name"] == name


def test_show_of_a_name_that_is_none() -> None:
    error = run("show", "btvc").exception
    assert isinstance(error, UsageError)
    assert "no task 'btvc'" in error.message
    assert "btcv" in (error.hint or "")


def test_check_of_a_whole_folder_says_what_to_run_next(tmp_path: Path) -> None:
    write_task(tmp_path / "d", "mmwhs", 16, 4, shape_xyz=SMALL)
    shown = run("check", "d", "--task", "mmwhs", "--labels")
    assert shown.exit_code == 0, shown.output
    for part in ("16 cases, 16 with a label map", "left ventricle: in 20 of 20", "images/{case}_image.nii.gz"):
        assert part in words(shown)
    assert "next: voco finetune --task mmwhs --data d" in words(shown)
    assert json.loads(run("check", "d", "--task", "mmwhs", "--json").stdout)["good"]


def test_check_ends_with_1_where_something_is_missing(tmp_path: Path) -> None:
    write_task(tmp_path / "d", "mmwhs", 15, 4, shape_xyz=SMALL)
    shown = run("check", "d", "--task", "mmwhs")
    assert isinstance(shown.exception, VocoError)
    assert shown.exception.exit_code == 1
    assert "does not match: 1 case of the split missing." in shown.exception.message
    assert "missing in training: ct_train_1020 (images/ct_train_1020_image.nii.gz)" in words(shown)
    found = json.loads(run("check", "d", "--task", "mmwhs", "--json").stdout)
    assert found["splits"]["training"]["missing"] == ["ct_train_1020 (images/ct_train_1020_image.nii.gz)"]


def test_check_goes_on_to_a_training_with_the_same_settings(tmp_path: Path) -> None:
    write_task(tmp_path / "d", "mmwhs", 15, 4, shape_xyz=SMALL)
    shown = run("check", "d", "--task", "mmwhs", "--set", "task.missing=leave_out")
    assert shown.exit_code == 0
    assert "left out of training: ct_train_1020 (images/ct_train_1020_image.nii.gz)" in words(shown)
    assert words(shown).endswith("next: voco finetune --task mmwhs --data d --set task.missing=leave_out")


def test_check_without_any_data() -> None:
    error = run("check", "--task", "lits").exception
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert "The data of lits is nowhere" in error.message


def test_new_then_check(tmp_path: Path) -> None:
    write_task(tmp_path / "d", "btcv", 4, 2, 0, shape_xyz=SMALL)
    labels = sorted((tmp_path / "d/labelsTr").iterdir())
    pairs = [{"image": f"imagesTr/{p.name.replace('label', 'img')}", "label": f"labelsTr/{p.name}"} for p in labels]
    (tmp_path / "d/data.json").write_text(json.dumps({"training": pairs, "labels": {"1": "spleen"}}))
    shown = run("new", "d/data.json", "-o", "my.yaml")
    assert shown.exit_code == 0, shown.output
    assert "wrote my.yaml" in words(shown)
    assert "next: voco tasks check --task my.yaml" in words(shown)
    assert words(run("show", "my.yaml")).endswith("next: voco tasks check --task my.yaml")
    checked = run("check", "--task", "my.yaml", "--labels")
    assert checked.exit_code == 0, checked.output
    assert "spleen: in 6 of 6" in words(checked)
    assert "next: voco finetune --task my.yaml" in words(checked)
    again = run("new", "d/data.json", "-o", "my.yaml").exception
    assert isinstance(again, UsageError)
    assert "exists already" in again.message
    assert run("new", "d/data.json", "-o", "my.yaml", "--force", "--backbone", "swinunetr").exit_code == 0
    assert load_settings(task="my.yaml").settings.model.backbone == "swinunetr"
    assert run("new", "d/data.json", "-o", "my.yaml", "--force", "--backbone", "resenc").exit_code == 0
    drafted = load_settings(task="my.yaml").settings
    assert (drafted.model.backbone, drafted.model.size, drafted.train.lr) == ("resenc", "L", 1e-3)
    assert "size: L" in Path("my.yaml").read_text()


def test_new_of_wrong_input(tmp_path: Path) -> None:
    for arguments, said in (
        (["t.csv"], "names cases and no files"),
        (["gone.json"], "cannot be opened"),
        (["gone.json", "-o", "task.txt"], "does not end like a settings file"),
    ):
        error = run("new", *arguments).exception
        assert isinstance(error, VocoError)
        assert said in error.message


def test_check_takes_its_data_by_an_option_as_other_commands_do(tmp_path: Path) -> None:
    write_task(tmp_path / "d", "mmwhs", 16, 4, shape_xyz=SMALL)
    (tmp_path / "other").mkdir()
    as_option = run("check", "--task", "mmwhs", "--data", "d")
    as_argument = run("check", "d", "--task", "mmwhs")
    assert as_option.exit_code == 0, as_option.output
    assert as_option.stdout == as_argument.stdout
    assert words(as_option).endswith("next: voco finetune --task mmwhs --data d")
    assert run("check", "d", "--task", "mmwhs", "--data", "d").stdout == as_argument.stdout
    twice = run("check", "d", "--task", "mmwhs", "--data", "other").exception
    assert isinstance(twice, UsageError)
    assert twice.message == "The data are given twice: d, and other by --data."
    gone = run("check", "--task", "mmwhs", "--data", "gone").exception
    assert isinstance(gone, UsageError)
    assert gone.message == "--data gone does not exist."


def test_check_of_a_list_in_place_of_the_tasks_own(tmp_path: Path) -> None:
    for folder, count in (("one", 4), ("two", 6)):
        write_task(tmp_path / folder, "btcv", count - 1, 1, 0, shape_xyz=SMALL)
        labels = sorted((tmp_path / folder / "labelsTr").iterdir())
        pairs = [{"image": f"imagesTr/{p.name.replace('label', 'img')}", "label": f"labelsTr/{p.name}"} for p in labels]
        (tmp_path / folder / "data.json").write_text(json.dumps({"training": pairs}))
    assert run("new", "one/data.json", "-o", "my.yaml").exit_code == 0
    own = json.loads(run("check", "--task", "my.yaml", "--json").stdout)
    other = json.loads(run("check", "--task", "my.yaml", "--data", "two/data.json", "--json").stdout)
    assert [sum(one["found"] for one in found["splits"].values()) for found in (own, other)] == [4, 6]
    shown = words(run("check", "--task", "my.yaml", "--data", "two/data.json"))
    assert shown.endswith("next: voco finetune --task my.yaml --data two/data.json")
