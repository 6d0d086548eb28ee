from __future__ import annotations

from voco_cli.resources.bench import Measured, limit_sentence


def test_median_and_spread() -> None:
    one = Measured("disk", "MB/s", (3.0, 9.0, 4.0))
    assert (one.middle, one.spread) == (4.0, (3.0, 9.0))
    assert one.to_json() == {"median": 4.0, "least": 3.0, "most": 9.0, "unit": "MB/s", "values": [3.0, 9.0, 4.0]}


def test_the_slower_of_the_two_is_the_limit() -> None:
    assert limit_sentence(2.0, 50.0, 3).startswith("The step is the limit: steps take 2 volumes a second")
    assert limit_sentence(50.0, 2.0, 3).startswith("The loader is the limit:")


def test_without_loader_processes_both_take_turns() -> None:
    # A volume takes 1/30 s to compute and 1/10 s to read: reading is three quarters of the time.
    assert limit_sentence(30.0, 10.0, 0).startswith("Without loader processes, reading takes 75% of the time")
