"""A plan in numbers: what a run needs of disk and memory, what is free of it, how long it takes, what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voco_cli.resources.machine import existing_parent, free_disk_bytes, mount_point

CACHE = "cache"
"""Name of the parts of disk and time that the cache is."""
Known = Literal["measured", "estimated"]
Kind = Literal["disk", "memory", "shared memory", "GPU memory"]


@dataclass(frozen=True)
class Amount:
    """Bytes or seconds.

    Attributes:
        value: the likeliest.
        known: measured here (scaled to the whole where only a part was measured), or worked out from sizes.
        low, high: where it will lie; equal to the value where nothing says.
    """

    value: float
    known: Known
    low: float
    high: float

    @classmethod
    def of(cls, value: float, known: Known, spread: float = 0.0) -> Amount:
        """Make an amount with a spread to either side, in the same unit."""
        return cls(value, known, max(0.0, value - spread), value + spread)

    @classmethod
    def within(cls, value: float, factor: float) -> Amount:
        """Make an estimate that may be wrong by a factor either way."""
        return cls(value, "estimated", value / factor, value * factor)

    def times(self, factor: float) -> Amount:
        """Return so many of it."""
        return Amount(self.value * factor, self.known, self.low * factor, self.high * factor)

    def plus(self, more: float) -> Amount:
        """Return it with something added that is known for certain."""
        return Amount(self.value + more, self.known, self.low + more, self.high + more)


@dataclass(frozen=True)
class Part:
    """One of the things that an amount consists of."""

    name: str
    amount: Amount

    def to_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        return {"name": self.name, **asdict(self.amount)}


@dataclass(frozen=True)
class Need:
    """The need of one thing, and how much of it is free.

    Attributes:
        kind: of the thing.
        where: a folder of the file system, a phase of the run, or the device.
        parts: what adds up.
        free_bytes: of it.
    """

    kind: Kind
    where: str
    parts: tuple[Part, ...]
    free_bytes: int

    @property
    def total(self) -> Amount:
        """Sum of the parts."""
        return total([part.amount for part in self.parts])

    @property
    def needed_bytes(self) -> float:
        """Likeliest sum of the parts."""
        return self.total.value

    @property
    def high_bytes(self) -> float:
        """Most that the parts may come to."""
        return self.total.high

    @property
    def fits(self) -> bool:
        """True where there is room for the most that it may come to."""
        return self.high_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        return {
            **vars(self),
            "needed_bytes": round(self.needed_bytes),
            "high_bytes": round(self.high_bytes),
            "known": self.total.known,
            "fits": self.fits,
            "parts": [part.to_json() for part in self.parts],
        }


@dataclass(frozen=True)
class Plan:
    """The needs of a run on this machine.

    Attributes:
        subject: what was planned, in a few words.
        needs: of disk and memory.
        times: parts of the time, in seconds.
        notes: what a reader should know of it, one sentence each.
        advice: what to change where it does not fit, the most useful first.
        figures: everything that was counted or measured, for ``--json``.
    """

    subject: str
    needs: tuple[Need, ...]
    times: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """True where there is room for everything."""
        return all(need.fits for need in self.needs)

    @property
    def time_s(self) -> Amount | None:
        """All of the time; None where no part of it is known."""
        return total([part.amount for part in self.times]) if self.times else None

    def to_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        return {
            "subject": self.subject,
            "fits": self.fits,
            "needs": [need.to_json() for need in self.needs],
            "time_s": None if self.time_s is None else asdict(self.time_s),
            "times": [part.to_json() for part in self.times],
            "notes": list(self.notes),
            "advice": list(self.advice),
            "figures": dict(self.figures),
        }


def total(amounts: Sequence[Amount]) -> Amount:
    """Return the sum of some amounts; measured where the larger part of it is."""
    value, low, high = (sum(getattr(one, name) for one in amounts) for name in ("value", "low", "high"))
    measured = sum(one.value for one in amounts if one.known == "measured")
    return Amount(value, "measured" if 2 * measured >= value else "estimated", low, high)


def in_stages(plans: Sequence[Plan]) -> Plan:
    """Return the plan of stages that run one after the other: the most memory of any, and all of disk and time.

    The cache is made by the first, and counts once.
    """
    if len(plans) == 1:
        return plans[0]
    needs: dict[tuple[str, str], Need] = {}
    times: list[Part] = []
    for number, plan in enumerate(plans, 1):
        for need in plan.needs:
            before = needs.get((need.kind, need.where))
            if need.kind == "disk":
                own = _of_stage(number, need.parts)
                needs[need.kind, need.where] = replace(need, parts=(*(before.parts if before else ()), *own))
            elif before is None or need.high_bytes > before.high_bytes:
                needs[need.kind, need.where] = need
        times += _of_stage(number, plan.times)
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    advice = dict.fromkeys(one for plan in plans for one in plan.advice)
    figures = {f"stage {number}": dict(plan.figures) for number, plan in enumerate(plans, 1)}
    subject = f"{plans[0].subject}, {len(plans)} stages"
    return Plan(subject, tuple(needs.values()), tuple(times), tuple(notes), tuple(advice), figures)


def _of_stage(number: int, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts that a stage adds, named by its number."""
    return tuple(
        part if part.name == CACHE else replace(part, name=f"stage {number}: {part.name}")
        for part in parts
        if number == 1 or part.name != CACHE
    )


def disk_needs(wanted: Sequence[tuple[Path, Part]]) -> tuple[Need, ...]:
    """Add up what lies on the same file system, in the order in which file systems come.

    Args:
        wanted: folders, which need not exist yet, and what will lie there.
    """
    by_device: dict[int, tuple[Path, list[Part]]] = {}
    for folder, part in wanted:
        existing = existing_parent(folder)
        by_device.setdefault(existing.stat().st_dev, (existing, []))[1].append(part)
    return tuple(
        Need("disk", str(mount_point(existing)), tuple(parts), free_disk_bytes(existing))
        for existing, parts in by_device.values()
    )
