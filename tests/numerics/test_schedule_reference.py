from __future__ import annotations

import json
from pathlib import Path

import pytest

from voco_cli.training.trainer import rate_multiplier


def test_rates_equal_the_released_schedule(reference: Path) -> None:
    cases = json.loads((reference / "schedule.json").read_text())
    compared = 0
    for case in (case for case in cases.values() if isinstance(case, dict)):
        for step, expected in case["multiplier"].items():
            if int(step) > case["total"]:
                continue  # the released cosine rises again after the last step, which no run reaches
            assert rate_multiplier(int(step), case["total"], case["warmup"]) == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared == 37
