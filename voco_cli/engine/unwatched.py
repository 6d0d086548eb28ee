"""The watcher of processes that nobody looks at: all but the main one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voco_cli.engine.job import Values


class Unwatched:
    """Says nothing."""

    @contextmanager
    def building(self, total: int) -> Iterator[Callable[[str, str | None], None]]:
        """Nothing is shown."""
        yield lambda scan, reason: None

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """Nothing is shown."""
        yield lambda n=1: None

    def say(self, text: str, style: str | None = None) -> None:
        """Nothing is shown."""

    def warn(self, text: str, style: str | None = None) -> None:
        """Nothing is shown."""

    def prepared(self, prepared: Any) -> None:
        """Nothing is shown."""

    def started(self, step: int, steps: int) -> None:
        """Nothing is shown."""

    def trained(self, step: int, values: Values) -> None:
        """Nothing is shown."""

    def advanced(self, step: int) -> None:
        """Nothing is shown."""

    def validated(self, step: int, values: Values) -> None:
        """Nothing is shown."""

    def ended(self) -> None:
        """Nothing is shown."""
