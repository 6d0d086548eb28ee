"""What is seen while a run trains: a line of 80 columns that says how long, and the losses below it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from voco_cli.cli import progress
from voco_cli.cli.progress import RunProgress
from voco_cli.training.callbacks import Values


class Shown(RunProgress):
    def __init__(self) -> None:
        super().__init__()
        self._terms = ("loss", "prediction", "regularisation", "inter")

    def figures(self, values: Values) -> str:
        return f"rank {values['rank']:.2f}"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines on a terminal of 80 columns in the middle of a run of four large numbers."""
    terminal = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "err", terminal)
    monkeypatch.setattr(progress, "shows_bars", lambda: True)
    shown = Shown()
    shown.started(0, 250_000)
    bar = shown._bar
    assert bar is not None
    shown.advanced(123_456)
    terms = {"loss": 123.456, "prediction": 123.456, "regularisation": 123.456, "inter": 123456.789}
    shown.trained(123_456, {**terms, "cases_per_s": 1234.5, "data_wait": 0.25})
    shown.validated(123_456, {"rank": 3.25})
    bar.stop()
    with terminal.capture() as captured:
        terminal.print(bar.get_renderable())
    return captured.get().splitlines()


def test_step_bar_rate_and_time_come_first_in_80_columns(lines: list[str]) -> None:
    first = lines[0].split()
    assert (first[:2], first[3:6]) == (["step", "123456/250000"], ["1234.50", "scans/s", "left"])
    assert set(first[2]) <= {*"━╸╺"}
    assert first[7] == "after"
    assert len(lines[0].rstrip()) <= 80


def test_the_losses_stand_below_and_are_cut_at_the_edge(lines: list[str]) -> None:
    assert len(lines) == 3
    assert lines[1].startswith("loss 123.456 prediction 123.456 regularisation 123.456")
    assert lines[1].rstrip().endswith("…")
    assert lines[2].rstrip() == "held-out at step 123456: rank 3.25"
    assert max(map(len, lines)) <= 80
