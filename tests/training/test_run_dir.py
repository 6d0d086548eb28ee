from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from voco_cli.config import load_settings
from voco_cli.config.load import Resolved, leaves
from voco_cli.errors import DataError, Interrupted, UsageError
from voco_cli.training.run_dir import FREE_TO_CHANGE, RunFolder


def _resolved(*override: str) -> Resolved:
    return load_settings("debug", None, override, {"train.steps": 7})


def _started(path: Path, *override: str) -> RunFolder:
    folder = RunFolder(path)
    folder.create(_resolved(*override))
    folder.write_state("running", 0)
    return folder


def test_settings_are_kept_with_sources_and_versions(tmp_path: Path) -> None:
    kept = yaml.safe_load(_started(tmp_path / "run", "seed=3").settings_file.read_text())
    assert kept["settings"]["seed"] == 3
    assert kept["sources"]["seed"] == "--set"
    assert kept["sources"]["model.backbone"] == "recipe debug"
    assert {"voco", "torch", "monai", "python", "machine"} <= set(kept["versions"])


def test_other_settings_are_shown_and_refused(tmp_path: Path) -> None:
    folder = _started(tmp_path)
    with pytest.raises(UsageError) as caught:
        folder.check_same_settings(_resolved("train.lr=0.5", "crops.grid=2x2").settings)
    assert caught.value.message == (
        f"{tmp_path} was started with other settings:\n  crops.grid: (4, 4) -> (2, 2)\n  train.lr: 0.001 -> 0.5"
    )
    assert caught.value.exit_code == 2


def test_a_run_of_another_kind_is_named_instead_of_all_differences(tmp_path: Path) -> None:
    pretraining = _started(tmp_path / "a")
    task = load_settings(None, None, (), {}, task="btcv")
    with pytest.raises(UsageError) as caught:
        pretraining.check_same_settings(task.settings)
    assert caught.value.message == f"{tmp_path}/a holds a pre-training."
    finetuning = RunFolder(tmp_path / "b")
    finetuning.create(task)
    with pytest.raises(UsageError, match="b holds a fine-tuning for the task btcv"):
        finetuning.check_same_settings(_resolved().settings)


def test_what_leaves_the_weights_alone_may_change(tmp_path: Path) -> None:
    folder = _started(tmp_path)
    folder.check_same_settings(
        _resolved(
            "run.device=cpu", "run.threads=1", "data.workers=0", "data.prefetch=2", "cache.workers=1", "cache.level=5",
            "train.keep_checkpoints=9",
        ).settings
    )  # fmt: skip
    assert set(FREE_TO_CHANGE) <= set(dict(leaves(_resolved().settings)))


def test_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds files but no run \(thesis.txt\)"):
        RunFolder(tmp_path).create(_resolved())
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_data_file_of_a_user_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds files but no run \(data.json\)"):
        RunFolder(tmp_path).create(_resolved())


def test_folder_that_was_left_while_it_was_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / ".lock").touch()
    (tmp_path / ".unfinished-17-abc-settings.yaml").touch()
    folder.create(_resolved())
    folder.checkpoints.rmdir()
    assert not folder.is_started()  # nothing was trained, so nothing is lost with other settings
    folder.create(_resolved("seed=1"))
    assert yaml.safe_load(folder.settings_file.read_text())["settings"]["seed"] == 1
    folder.write_state("running", 0)
    assert folder.is_started()


def test_second_process_is_kept_out_while_the_first_lives(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    def ask() -> int:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                with folder.lock():
                    code = 0
            except UsageError as error:
                code = 2 if "Another process is at work" in error.message else 98
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with folder.lock():
        assert ask() == 2
    assert ask() == 0


def test_lock_goes_with_its_process_though_its_children_live_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    come, go = os.pipe(), os.pipe()
    parent = os.fork()
    if parent == 0:
        with folder.lock():
            if os.fork() == 0:  # a loader process, say
                os.read(go[0], 1)
                os.write(come[1], b"y")
                os._exit(0)
            os.write(come[1], b"x")
            os._exit(0)
    os.read(come[0], 1)
    os.waitpid(parent, 0)
    with folder.lock():
        os.write(go[1], b"x")
        assert os.read(come[0], 1) == b"y"  # the child lives on and waited for this


@pytest.mark.parametrize("below", [False, True])
def test_file_in_the_way(tmp_path: Path, below: bool) -> None:
    (tmp_path / "run").write_text("a file")
    path = tmp_path / "run" / "x" if below else tmp_path / "run"
    with pytest.raises(UsageError, match="is not a folder"), RunFolder(path).lock():
        pass


def test_state_that_is_not_there_or_not_readable(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_state() == {}
    folder.state_file.write_text("{")
    assert folder.read_state() == {}
    folder.write_state("failed", 3, "why")
    assert (folder.read_state()["step"], folder.read_state()["reason"]) == (3, "why")


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", None),
        (Interrupted("Interrupted."), "interrupted", None),
        (DataError("No scan is usable."), "failed", "No scan is usable."),
    ],
)
def test_a_run_that_ends_before_its_first_step_says_how(
    end: BaseException, status: str, reason: str | None, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")

    def prepare() -> None:
        with folder.lock():
            folder.create(_resolved())
            raise end

    with pytest.raises(type(end)):
        prepare()
    state = folder.read_state()
    assert (state["status"], state["step"], state["reason"]) == (status, 0, reason)
    assert not folder.is_started()
