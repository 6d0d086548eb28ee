from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import benchmarks
from benchmarks.registry import CASES, Options, find_cases

FOLDER = Path(benchmarks.__file__).parent


def test_every_module_with_rows_is_a_case_and_every_case_has_them() -> None:
    with_rows = {f"benchmarks.{path.stem}" for path in FOLDER.glob("*.py") if "\ndef rows(" in path.read_text()}
    assert {case.place for case in CASES} == with_rows
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(callable(import_module(case.place).rows) for case in CASES if case.name not in ("surface", "growth"))


def test_the_one_that_takes_most_memory_comes_last() -> None:
    assert CASES[-1].name == "memory"


def test_cases_are_found_by_name_in_their_own_order() -> None:
    assert [case.name for case in find_cases(["step", "losses"])] == ["losses", "step"]
    assert find_cases([]) == list(CASES)
    with pytest.raises(KeyError, match="speed"):
        find_cases(["losses", "speed"])


def test_rounds_are_as_asked_else_few_where_it_is_quick() -> None:
    assert Options(rounds=3, quick=True).rounds_or(7) == 3
    assert Options(quick=True).rounds_or(7) == 2
    assert Options().rounds_or(7) == 7
