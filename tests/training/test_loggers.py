from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voco_cli.training.loggers import LOGGERS, Logger, Loggers, read_metrics


def _write(folder: Path, start: int, steps: range, offset: float = 0.0) -> None:
    writer = Loggers(folder, start, ["tensorboard"])
    for step in steps:
        writer.write("train", step, {"loss": step + offset})
    writer.close()


def test_one_object_a_line_and_the_same_in_tensorboard(tmp_path: Path) -> None:
    _write(tmp_path, 0, range(1, 4), 0.5)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": step, "split": "train", "loss": step + 0.5} for step in (1, 2, 3)
    ]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 1.5), (2, 2.5), (3, 3.5)]


def test_resuming_drops_what_will_be_run_again(tmp_path: Path) -> None:
    _write(tmp_path, 0, range(1, 6))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "spl')  # cut short by a kill
    _write(tmp_path, 3, range(4, 7), 0.5)
    found = [(record["step"], record["loss"]) for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4.5), (5, 5.5), (6, 6.5)]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == found


def test_starting_again_at_step_0_drops_the_first_validation_too(tmp_path: Path) -> None:
    _write(tmp_path, 0, range(3))
    _write(tmp_path, 0, range(2))
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


@pytest.mark.parametrize("line", [b"\xff\xfe\x00", b"[" * 100_000, b"[1]", b"3", b"null", b"\x00"])
def test_lines_that_hold_no_object_are_passed_over(tmp_path: Path, line: bytes) -> None:
    good = [b'{"step": 1, "split": "train", "loss": 0.5}', b'{"step": 2, "split": "train", "loss": 0.25}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good[0], line, good[1]]))
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == []


def test_a_logger_that_is_registered_gets_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder(Logger):
        """Keeps what it is given."""

        def __init__(self) -> None:
            self.written: list[tuple[str, int, float]] = []
            self.closed = False

        def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
            self.written.append((split, step, values["loss"]))

        def close(self) -> None:
            self.closed = True

    recorder = Recorder()
    monkeypatch.setitem(LOGGERS, "recorder", lambda run, step: recorder)
    loggers = Loggers(tmp_path, 0, ["recorder"])
    loggers.write("train", 1, {"loss": 2.5})
    loggers.flush()
    loggers.close()
    assert recorder.written == [("train", 1, 2.5)]
    assert recorder.closed
    assert not (tmp_path / "tensorboard").exists()
