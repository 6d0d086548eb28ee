"""A study goes on where weights, task file and data are spelled another way or have moved; other content is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.killed import left_by_kills
from tests.study.made_study import PRESET, Heard, StandIn, find, plan, weights_file
from voco_cli.config import Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.errors import UsageError
from voco_cli.study.plan import StudyPlan, make_plan
from voco_cli.study.record import recorded_arms, with_recorded_names
from voco_cli.tasks.find_data import TaskData
from voco_cli.workflows.study import run_study


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn after each run, and tested elsewhere."""
    monkeypatch.setattr("voco_cli.workflows.study_outcome.draw_label_efficiency", lambda found: b"a picture")


FOUND = find()


def run(asked: StudyPlan, find: Any = FOUND) -> list[str]:
    """The runs that were made."""
    stand_in = StandIn(lambda settings: 0.5)
    run_study(with_recorded_names(asked), Heard(), finetune=stand_in, find=find)
    return stand_in.called


def again(folder: Path, task: Path, weights: str) -> StudyPlan:
    """The same study as its command would plan it."""
    return make_plan(folder / "study", str(task), [weights], (5,), 1, known=recorded_arms(folder / "study"))


def test_weights_and_task_file_that_moved_are_the_same_arm(tmp_path: Path) -> None:
    weights = weights_file(tmp_path / "runs" / "try" / "weights", "encoder.safetensors")
    assert run(plan(tmp_path, [str(tmp_path / "runs" / "try")], (5,), 1)) == ["none/n005-seed0", "try/n005-seed0"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    task = elsewhere / "renamed.yaml"
    task.write_text(PRESET)
    assert run(again(tmp_path, task, weights)) == []  # the file in place of its run folder
    shutil.move(weights, elsewhere / "copy.safetensors")
    assert run(again(tmp_path, task, os.path.relpath(elsewhere / "copy.safetensors"))) == []
    other = weights_file(tmp_path, "other.safetensors", b"other weights")
    assert run(again(tmp_path, task, other)) == ["other/n005-seed0"]  # another content is another arm


def files_of(folder: Path) -> Any:
    """Cases whose files are there."""

    def entry(name: str) -> Entry:
        return Entry(image=folder / f"{name}.nii.gz", label=folder / f"{name}_seg.nii.gz", patient=name, case=name)

    def found(settings: Settings) -> TaskData:
        train, test = (tuple(entry(f"{kind}{i}") for i in range(n)) for kind, n in (("train", 5), ("case", 8)))
        return TaskData(Datalist(name="tiny", training=train, test=test), "a folder", "a split")

    return found


def test_data_that_moved_goes_on_and_a_changed_label_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in [*(f"train{i}" for i in range(5)), *(f"case{i}" for i in range(8))]:
        (data / f"{name}.nii.gz").write_bytes(name.encode())
        (data / f"{name}_seg.nii.gz").write_bytes(b"label of " + name.encode())
    asked = plan(tmp_path, [], (5,), 1)
    assert run(asked, files_of(data)) == ["none/n005-seed0"]
    moved = Path(shutil.copytree(data, tmp_path / "moved", copy_function=shutil.copyfile))  # other times
    assert run(asked, files_of(moved)) == []
    (moved / "case3_seg.nii.gz").write_bytes(b"LABEL of case3")
    with pytest.raises(UsageError, match=r"other scans or label maps than the files hold now of case3\."):
        run(asked, files_of(moved))
    assert run(asked, files_of(data)) == []


def test_a_kill_at_any_write_never_blocks_the_folder(tmp_path: Path) -> None:
    study = tmp_path / "study"
    asked = plan(tmp_path, [weights_file(tmp_path)], (5,), 1)
    left = left_by_kills(study, tmp_path / "left", lambda: run(asked))
    first = next(one for one in left if any(not path.name.startswith(".") for path in one.iterdir()))
    assert {path.name for path in first.iterdir() if not path.name.startswith(".")} == {"study.json"}
    for one in left:
        shutil.rmtree(study)
        shutil.copytree(one, study)
        run(asked)
        assert (study / "study.md").is_file()


def test_the_data_json_of_a_user_is_not_overwritten(tmp_path: Path) -> None:
    asked = plan(tmp_path, [], (5,), 1)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "data.json").write_text("mine")
    with pytest.raises(UsageError, match=r"study holds a data\.json but no study"):
        run(asked)
    assert (tmp_path / "study" / "data.json").read_text() == "mine"
