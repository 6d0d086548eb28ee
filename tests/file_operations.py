"""Which files this process asks the system for: states, openings and listings, by path."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import blosc2

_heard: list[Counter[tuple[str, str]]] = []
_EVENTS = {"open": "open", "os.listdir": "list", "os.scandir": "list"}


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard and event in _EVENTS and isinstance(arguments[0], str | os.PathLike):
        _heard[-1][_EVENTS[event], str(arguments[0])] += 1


sys.addaudithook(_hear)  # it stays for the life of the process, and costs nothing while nobody counts


@contextmanager
def counted_operations() -> Iterator[Counter[tuple[str, str]]]:
    """Count (operation, path) in the block; operations are state, open and list, and volume where blosc2 opens."""
    found: Counter[tuple[str, str]] = Counter()
    stat, open_volume = os.stat, blosc2.open

    def counting_stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:  # os.stat has no audit event
        found["state", str(path)] += 1
        return stat(path, *args, **kwargs)

    def counting_open(path: str, *args: Any, **kwargs: Any) -> Any:  # blosc2 opens in C
        found["volume", path] += 1
        return open_volume(path, *args, **kwargs)

    with patch("os.stat", counting_stat), patch("blosc2.open", counting_open):
        _heard.append(found)
        try:
            yield found
        finally:
            _heard.pop()


def below(found: Counter[tuple[str, str]], folder: Path, ending: str = "") -> Counter[str]:
    """Return how often each operation was done on the paths below a folder that end so."""
    kinds: Counter[str] = Counter()
    for (kind, path), count in found.items():
        if path.startswith(f"{folder}{os.sep}") and path.endswith(ending):
            kinds[kind] += count
    return kinds
