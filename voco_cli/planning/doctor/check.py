"""One line of what was looked at: fine, worth knowing, or in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voco_cli.errors import VocoError

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        name: what was looked at.
        status: a problem is what keeps pre-training from running.
        found: in a few words.
        advice: what to do; none where nothing is to be done.
        values: the numbers, for ``--json``.
    """

    name: str
    status: Status
    found: str
    advice: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "advice": self.advice,
            "values": dict(self.values),
        }


def looked_at(name: str, look: Callable[[], Check], failing: Status = "warning") -> Check:
    """Do a check; one that cannot even be done is a line of its own, and never the end of the others."""
    return next(all_looked_at(name, lambda: iter((look(),)), failing))


def all_looked_at(name: str, look: Callable[[], Iterator[Check]], failing: Status = "warning") -> Iterator[Check]:
    """Several lines of one check; if it ends early, those it had, and why."""
    try:
        yield from look()
    except VocoError as error:
        yield Check(name, failing, error.message, error.hint)
    except Exception as error:  # whatever a broken installation raises is what is being looked for
        yield Check(name, failing, f"could not be looked at ({type(error).__name__}: {error})")
