"""Which folder is what, how a run stands, and records from JSON that fit or are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.report.hostile_files import DEEP, write_pipe
from tests.report.made_runs import finetuning_run, pretraining_run, write_state
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.tables import from_json
from voco_cli.report.curves import finite
from voco_cli.report.run_record import (
    kind_of,
    ran_with,
    read_object,
    read_run,
    read_settings,
    run_names,
    status_of,
    when_of,
)


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


@dataclass(frozen=True)
class Made:
    run: str
    part: str | None
    cases: int
    low: float
    values: tuple[float, ...]


HELD: dict[str, Any] = {"run": "a", "part": None, "cases": 3, "low": None, "values": [1, None, 0.5], "more": "left out"}


def test_null_among_numbers_is_nan_and_lists_are_tuples() -> None:
    found = from_json(Made, HELD)
    assert (found.run, found.part, found.cases, found.values[0], found.values[2]) == ("a", None, 3, 1.0, 0.5)
    assert math.isnan(found.low)
    assert math.isnan(found.values[1])


def test_names_that_are_no_text_are_kept() -> None:
    assert from_json(Made, {**HELD, "run": "b\udcff"}).run == "b\udcff"


@pytest.mark.parametrize(
    "odd",
    [
        {"run": None},
        {"run": 3},
        {"part": 3},
        {"cases": None},
        {"cases": True},
        {"cases": 1.5},
        {"low": "x"},
        {"low": 10**400},
        {"low": True},
        {"values": 3},
        {"values": None},
        {"values": "abc"},
        {"values": [[1.0]]},
    ],
)
def test_values_of_another_kind_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"should be a valid|greater than any float"):
        from_json(Made, {**HELD, **odd})


def test_what_is_a_number() -> None:
    assert (finite(3), finite(-0.5)) == (3.0, -0.5)
    assert [finite(value) for value in (True, None, "3", math.nan, math.inf, 10**400)] == [None] * 6
