"""What a plan says: amounts and how they are known, what is needed of each thing, and what is free of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Known = Literal["measured", "estimated"]
Kind = Literal["disk", "memory", "shared memory", "GPU memory"]


@dataclass(frozen=True)
class Amount:
    """Bytes or seconds.

    Attributes:
        value: the likeliest.
        known: measured here (scaled to the whole where only a part was measured), or worked out from sizes.
        low, high: where it will lie, as far as the measurements spread; equal to the value where they do not say.
    """

    value: float
    known: Known
    low: float
    high: float

    @classmethod
    def of(cls, value: float, known: Known, spread: float = 0.0) -> Amount:
        """An amount with a spread to either side, in the same unit."""
        return cls(value, known, max(0.0, value - spread), value + spread)

    def times(self, factor: float) -> Amount:
        """So many of it."""
        return Amount(self.value * factor, self.known, self.low * factor, self.high * factor)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"value": self.value, "known": self.known, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Part:
    """One of the things that an amount consists of."""

    name: str
    amount: Amount

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"name": self.name, **self.amount.to_json()}


@dataclass(frozen=True)
class Need:
    """What is needed of one thing, and what is free of it.

    Attributes:
        kind: of the thing.
        where: a folder of the file system, the machine, or the device.
        parts: what adds up.
        free_bytes: of it.
        at_least: more would have been taken, had a trial not ended for want of it.
    """

    kind: Kind
    where: str
    parts: tuple[Part, ...]
    free_bytes: int
    at_least: bool = False

    @property
    def needed_bytes(self) -> float:
        """The sum of the parts."""
        return sum(part.amount.value for part in self.parts)

    @property
    def high_bytes(self) -> float:
        """The sum of what the parts may come to."""
        return sum(part.amount.high for part in self.parts)

    @property
    def known(self) -> Known:
        """How the larger part of it is known."""
        return max(self.parts, key=lambda part: part.amount.value).amount.known if self.parts else "measured"

    @property
    def fits(self) -> bool:
        """Whether there is room for the most that it may come to."""
        return not self.at_least and self.high_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "kind": self.kind,
            "where": self.where,
            "needed_bytes": round(self.needed_bytes),
            "high_bytes": round(self.high_bytes),
            "free_bytes": self.free_bytes,
            "known": self.known,
            "at_least": self.at_least,
            "fits": self.fits,
            "parts": [part.to_json() for part in self.parts],
        }


@dataclass(frozen=True)
class Plan:
    """What something will need here.

    Attributes:
        subject: what was planned, in a few words.
        needs: of disk and memory.
        times: parts of the time, in seconds; empty where no step was tried.
        notes: what a reader should know of it, one sentence each.
        advice: what to change where it does not fit, the most useful first.
        obstacles: what a trial ended with, that the run would end with, too: one sentence each.
        figures: everything that was measured, for ``--json``.
    """

    subject: str
    needs: tuple[Need, ...]
    times: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether there is room for everything, and nothing else is in the way."""
        return not self.obstacles and all(need.fits for need in self.needs)

    @property
    def time_s(self) -> Amount | None:
        """All of the time; none where no step was tried."""
        return total(self.times) if self.times else None

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        time_s = self.time_s
        return {
            "subject": self.subject,
            "fits": self.fits,
            "needs": [need.to_json() for need in self.needs],
            "time_s": None if time_s is None else time_s.to_json(),
            "times": [part.to_json() for part in self.times],
            "notes": list(self.notes),
            "advice": list(self.advice),
            "obstacles": list(self.obstacles),
            "figures": dict(self.figures),
        }


def total(parts: Sequence[Part]) -> Amount:
    """The sum of some parts; measured where the larger part of it is."""
    amounts = [part.amount for part in parts]
    value, low, high = (sum(getattr(one, name) for one in amounts) for name in ("value", "low", "high"))
    measured = sum(one.value for one in amounts if one.known == "measured")
    return Amount(value, "measured" if 2 * measured >= value else "estimated", low, high)
