"""Splits by patient that stay as they are when the folder grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from voco_cli.data.index.datalist import SplitRule

# Which split wins for a patient who is in two: held out is held out.
HELD_OUT_FIRST = ("test", "validation", "training")


def position(seed: int, patient: str) -> float:
    """Return a number in [0, 1) that depends on seed and patient alone (the first 8 bytes of BLAKE2b)."""
    digest = hashlib.blake2b(f"{seed}\0{patient}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def assign_splits(
    patients: Iterable[str],
    rule: SplitRule,
    listed: Mapping[str, str] | None = None,
    earlier: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the split of every patient.

    A patient is tested where `position` is below the test share, validated where it is below both shares together, and
    trained on otherwise; nobody's place depends on who else is there. Where a validation share is asked for and nobody
    falls below it, the patient with the least position who would be trained on validates; only that one may move as the
    folder grows, and not where ``earlier`` is given. Where nobody would be trained on, the one with the greatest
    position is.

    Args:
        listed: splits that input lists prescribe; they win.
        earlier: splits of an index that was made by the same rule; they win next.
    """
    known = {**(earlier or {}), **(listed or {})}
    everyone = list(dict.fromkeys(patients))
    splits = {patient: known.get(patient) or _drawn(position(rule.seed, patient), rule) for patient in everyone}
    if "training" not in splits.values():
        drawn = [who for who in everyone if who not in known]
        if drawn:
            splits[max(drawn, key=lambda who: position(rule.seed, who))] = "training"
    if rule.validation > 0 and "validation" not in splits.values():
        free = [who for who in everyone if splits[who] == "training" and who not in (listed or {})]
        if len(free) > 1:
            splits[min(free, key=lambda who: position(rule.seed, who))] = "validation"
    return splits


def stricter(first: str, second: str) -> str:
    """Return the split of the two that is held out the more."""
    return min(first, second, key=HELD_OUT_FIRST.index)


def _drawn(where: float, rule: SplitRule) -> str:
    if where < rule.test:
        return "test"
    return "validation" if where < rule.test + rule.validation else "training"
