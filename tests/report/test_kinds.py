"""What a folder is told to be, and what is refused."""

from pathlib import Path

import pytest

from tests.report.hostile_files import DEEP
from tests.report.made_runs import finetuning_run, pretraining_run
from voco_cli.errors import DataError, UsageError
from voco_cli.report.run_record import kind_of, read_settings, run_names


def test_runs_are_told_by_their_task(tmp_path: Path) -> None:
    assert kind_of(pretraining_run(tmp_path / "a")) == "pre-training"
    assert kind_of(finetuning_run(tmp_path / "b")) == "fine-tuning"


def test_studies_and_comparisons_are_told_by_their_files(tmp_path: Path) -> None:
    for name, kind in (("study.json", "study"), ("comparison.json", "comparison")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text("{}")
        assert kind_of(tmp_path / kind) == kind


def test_other_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        kind_of(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no run, study or comparison"):
        kind_of(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match="is an evaluation and no run"):
        kind_of(tmp_path)
    with pytest.raises(UsageError, match="is a file") as refused:
        kind_of(tmp_path / "summary.json")
    assert refused.value.hint == f"give its folder: voco report {tmp_path}"


@pytest.mark.parametrize("content", ["settings: [", "- 1", "settings: 3", "a: b"])
def test_damaged_settings_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(DataError, match=r"settings\.yaml"):
        read_settings(tmp_path)


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    assert run_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert run_names([tmp_path / "x" / "run", tmp_path / "y" / "run"]) == ["x/run", "y/run"]
    far = [tmp_path / "1" / "x" / "run", tmp_path / "2" / "x" / "run"]
    assert run_names(far) == ["1/x/run", "2/x/run"]
    assert run_names([Path("/")]) == ["/"]
    assert run_names([tmp_path, tmp_path / tmp_path.name]) == [
        f"{tmp_path.parent.name}/{tmp_path.name}",
        f"{tmp_path.name}/{tmp_path.name}",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("settings: &a {task: {preset: null}, z: *a}", "aliases"),
        ("a: &a [1, 2]\nsettings: {x: *a}", "aliases"),
        (f"settings: {DEEP}", "too deep"),
        ("settings: !!python/object/apply:os.system ['false']", "could not determine a constructor"),
    ],
)
def test_settings_made_to_do_harm_are_an_error(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(DataError, match=reason):
        kind_of(tmp_path)
