"""How a run stands, whatever state it was left in."""

from pathlib import Path

import pytest

from tests.report.hostile_files import DEEP, write_pipe
from tests.report.made_runs import pretraining_run, write_state
from voco_cli.report.run_record import ran_with, read_object, read_run, status_of, when_of


@pytest.mark.parametrize(
    ("status", "step", "reason", "tone", "sentence"),
    [
        ("done", 10, None, "good", "Finished at step 10 of 10, 2026-03-04 05:06 UTC."),
        (
            "interrupted",
            4,
            "Stopped by SIGTERM.",
            "warning",
            "Stopped at step 4 of 10, 2026-03-04 05:06 UTC: Stopped by SIGTERM. The same command goes on from there.",
        ),
        (
            "failed",
            2,
            "The loss became nan.",
            "bad",
            "Failed; the last checkpoint is that of step 2 of 10, 2026-03-04 05:06 UTC: The loss became nan.",
        ),
        (
            "running",
            6,
            None,
            "warning",
            "Still running, or killed without a word: step 6 of 10 when it last wrote its state, 2026-03-04 05:06 UTC.",
        ),
        (
            "preparing",
            0,
            None,
            "warning",
            "Still preparing, or killed without a word, before the first step, 2026-03-04 05:06 UTC: the same command "
            "begins anew.",
        ),
    ],
)
def test_status(tmp_path: Path, status: str, step: int, reason: str | None, tone: str, sentence: str) -> None:
    run = pretraining_run(tmp_path / "run")
    write_state(run, status, step, reason)
    word, shown_tone, shown = status_of(read_run(run, "run"))
    assert (word, shown_tone, shown.text) == (status, tone, sentence)


def test_a_run_without_a_state_has_not_begun(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    (run / "state.json").unlink()
    record = read_run(run, "run")
    assert status_of(record)[2].text == "There is no state.json: no step of training was begun."
    assert when_of(record) == ""


def test_an_odd_time_is_shown_as_it_stands(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    (run / "state.json").write_text('{"status": "done", "step": "<b>", "time": "yesterday"}')
    record = read_run(run, "run")
    assert when_of(record) == "yesterday"
    assert status_of(record)[2].text == "Finished at step <b> of 10, yesterday."


def test_a_list_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    (run / "data.json").write_text("{")
    record = read_run(run, "run")
    assert record.datalist is None
    assert "data.json is not valid JSON" in record.data_fault


def test_machine_and_versions(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    assert ran_with(read_run(run, "run")).pairs == (
        ("folder", str(run)),
        ("machine", "Linux x86_64, 2 cores"),
        ("voco", "0.1.0"),
        ("python", "3.11.0"),
    )


def test_objects_that_are_none(tmp_path: Path) -> None:
    for content in ("", "[1]", "{", DEEP):
        (tmp_path / "x.json").write_text(content)
        assert read_object(tmp_path / "x.json") == {}
    write_pipe(tmp_path / "x.json")
    assert read_object(tmp_path / "x.json") == {}
