"""What jobs need that is too large to travel with each of them, such as a network: loaded once a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class LoadedHere(Generic[Loaded]):
    """What this process has loaded."""

    value: Loaded

    def ready(self) -> Loaded:
        """Return it."""
        return self.value


@dataclass(frozen=True)
class LoadedThere(Generic[Loaded]):
    """What each process of a cluster loads for itself.

    Attributes:
        load: a frozen dataclass whose call loads it, so that equal ones are loaded once.
    """

    load: Callable[[], Loaded]

    def ready(self) -> Loaded:
        """Return it, loaded where it was not yet; what loading raises is raised."""
        with _LOADING:
            found: Loaded = _loaded_once(self.load)
            return found


_LOADING = threading.Lock()
"""Threads of one worker wait for what one of them loads."""


@lru_cache(maxsize=1)
def _loaded_once(load: Callable[[], Any]) -> Any:
    return load()
