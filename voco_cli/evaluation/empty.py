"""What a structure counts that the reference, the prediction or both do not have: a rule that every table states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from voco_cli.errors import UsageError
from voco_cli.evaluation.measures import DISTANCES, SHARES, Measurement


@dataclass(frozen=True)
class EmptyRule:
    """How empty structures enter the means; missed and phantom ones are counted under every rule.

    Attributes:
        name: as on the command line.
        absent: in neither map: left out, or perfect (1 and 0 mm).
        phantom: only in the prediction: Dice, IoU and NSD 0, or left out. A missed structure is always 0.
        distance: of missed structures, and of phantoms that count: left out, or the diagonal of the scan, mm.
    """

    name: str
    absent: Literal["left out", "perfect"]
    phantom: Literal["zero", "left out"]
    distance: Literal["left out", "diagonal"]

    def sentence(self) -> str:
        """The rule in words, for tables."""
        absent = "left out" if self.absent == "left out" else "1, and 0 mm"
        distance = "distances left out" if self.distance == "left out" else "distances are the scan's diagonal"
        if self.phantom == "left out":
            return f"absent in both: {absent}; missed: 0, {distance}; phantoms left out (false positives are free)"
        return f"absent in both: {absent}; missed or phantom: 0, {distance}"


RULES = {
    rule.name: rule
    for rule in (
        EmptyRule("count", absent="left out", phantom="zero", distance="left out"),
        EmptyRule("perfect", absent="perfect", phantom="zero", distance="left out"),
        EmptyRule("penalty", absent="left out", phantom="zero", distance="diagonal"),
        EmptyRule("brats", absent="perfect", phantom="zero", distance="diagonal"),
        EmptyRule("released", absent="left out", phantom="left out", distance="left out"),
    )
}
"""``released`` is what VoCo's released code does; ``brats`` is that challenge's rule with each scan's own diagonal."""


def empty_rule(name: str) -> EmptyRule:
    """The rule of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in RULES:
        raise UsageError(f"--empty {name} is no rule for empty classes.", f"Use one of {', '.join(RULES)}.")
    return RULES[name]


def apply_rule(one: Measurement, rule: EmptyRule) -> dict[str, float]:
    """Value of each metric that enters the means; NaN is left out."""
    values = {name: float(getattr(one, name)) for name in (*SHARES, *DISTANCES)}
    if one.state == "both":
        return values
    if one.state == "absent":
        share, distance = (1.0, 0.0) if rule.absent == "perfect" else (math.nan, math.nan)
    elif one.state == "phantom" and rule.phantom == "left out":
        share, distance = math.nan, math.nan
    else:
        share, distance = 0.0, one.diagonal_mm if rule.distance == "diagonal" else math.nan
    return {**dict.fromkeys(SHARES, share), **dict.fromkeys(DISTANCES, distance)}
