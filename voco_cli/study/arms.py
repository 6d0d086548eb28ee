"""What the runs of a study start from: fresh weights, given ones, or those of a pre-training of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voco_cli.config.stages import parse_objectives
from voco_cli.errors import UsageError

BASELINE, LONGER = "none", "none+"
"""From scratch; and from scratch with the time of a pre-training spent on fine-tuning instead."""
PRETRAINING = "pretraining"
"""Folder of the pre-trainings of a study."""
MOST_LETTERS = 32
PLAIN_NAMES = {"weights", "checkpoints", "encoder", "model", "student", "teacher"}
"""Names that every run folder has inside: they tell nothing of whose weights these are."""


@dataclass(frozen=True)
class Arm:
    """What runs start from; fresh weights where it has neither weights nor an objective.

    Attributes:
        name: in tables.
        weights: run folder, file or hf:// address.
        objective: of the pre-training that the study runs for each seed, such as ``voco+mae`` or ``voco:mae``.
    """

    name: str
    weights: str | None = None
    objective: str | None = None

    @property
    def is_fresh(self) -> bool:
        """Return True where fine-tuning starts from scratch."""
        return self.weights is None and self.objective is None

    @property
    def folder(self) -> str:
        """Return its name as every file system takes it."""
        return self.name.replace(":", "-then-")


def make_arms(
    weights: Sequence[str], objectives: Sequence[str], known: Mapping[str, str | None] | None = None
) -> tuple[Arm, ...]:
    """Return the arms that a user asks for: fresh weights first, the longer ones from scratch last.

    Args:
        weights: ``none`` or anything that ``model.weights`` takes.
        objectives: ``none``, ``none+`` or objectives as `parse_objectives` reads them.
        known: names and weights of an earlier plan for the same folder, which keep their names.
    Raises:
        UsageError: an unknown objective; ``none+`` without a pre-training whose time it could get.
    """
    pretrained = [_spelled(one) for one in objectives if one not in (BASELINE, LONGER)]
    if LONGER in objectives and not pretrained:
        raise UsageError(
            f"{LONGER} gets the time of a pre-training, and no objective is asked for.",
            f"for example --objective {BASELINE},{LONGER},voco",
        )
    taken = {BASELINE, LONGER, PRETRAINING, *pretrained, *(known or {})}
    given = []
    for source in dict.fromkeys(one for one in weights if one != BASELINE):
        name = next((name for name, of in (known or {}).items() if of == source), None) or _new_name(source, taken)
        taken.add(name)
        given.append(Arm(name, source))
    arms = [Arm(BASELINE), *given, *(Arm(one, objective=one) for one in dict.fromkeys(pretrained))]
    return (*arms, Arm(LONGER)) if LONGER in objectives else tuple(arms)


def _spelled(objective: str) -> str:
    """Return objectives as they are spelled in names, whatever blanks and weights of 1 were typed."""
    return ":".join(
        "+".join(name if weight == 1 else f"{name}={weight:g}" for name, weight in stage.items())
        for stage in parse_objectives(objective)
    )


def _new_name(source: str, taken: set[str]) -> str:
    """Return a short name for weights that no other arm has: of a run folder or file, whatever lies inside."""
    parts = [part for part in re.split(r"[/\\]", source.removeprefix("hf://")) if part not in ("", ".", "..")]
    parts[-1:] = [re.sub(r"\.(safetensors|pt|pth|pkl|gz|bin|ckpt)\b", "", part) for part in parts[-1:]]
    telling = [part for part in parts if part.lower() not in PLAIN_NAMES]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", telling[-1] if telling else "weights")
    if name.startswith("step-") and len(telling) > 1:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{telling[-2]}-{name}")
    name = name.strip("-.")[:MOST_LETTERS] or "weights"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
