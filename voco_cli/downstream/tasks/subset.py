"""A share of the training cases: seeded, by patient, and each smaller one part of a larger."""

from __future__ import annotations

from collections.abc import Sequence

from voco_cli.dataset.datalist import Entry
from voco_cli.dataset.splits import position
from voco_cli.errors import UsageError
from voco_cli.settings.task import Task


def subset(training: Sequence[Entry], task: Task, seed: int) -> tuple[Entry, ...]:
    """The training cases that ``task.cases`` or ``task.fraction`` leaves, in the order of ``training``.

    Patients come in a seeded order and are taken whole: until there are at least ``task.cases`` cases, or the rounded
    share of patients, at least one. With the same seed a smaller subset is part of a larger. Categories alternate in
    proportion to their patients, so that few scans of a classification are not all of one kind.

    Raises:
        UsageError: more cases are asked for than there are.
    """
    if task.cases is None and task.fraction == 1:
        return tuple(training)
    if task.cases is not None and task.cases > len(training):
        raise UsageError(
            f"task.cases is {task.cases}, and there are {len(training)} cases to train on.", "lower task.cases"
        )
    scans: dict[str, list[Entry]] = {}
    for entry in training:
        scans.setdefault(entry.patient, []).append(entry)
    ordered = _ordered(scans, seed)
    share = max(1, round(task.fraction * len(ordered)))
    taken: set[str] = set()
    cases = 0
    for who in ordered:
        if (cases >= task.cases) if task.cases is not None else (len(taken) == share):
            break
        taken.add(who)
        cases += len(scans[who])
    return tuple(entry for entry in training if entry.patient in taken)


def _ordered(scans: dict[str, list[Entry]], seed: int) -> list[str]:
    """Patients in their seeded order, categories interleaved by their shares."""
    groups: dict[str, list[str]] = {}
    # Another draw than that of the split, or who trains near its border would always come first.
    for who in sorted(scans, key=lambda who: (position(seed, f"subset\0{who}"), who)):
        groups.setdefault(scans[who][0].category or "", []).append(who)
    placed = [
        ((rank + 0.5) / len(group), category, who)
        for category, group in groups.items()
        for rank, who in enumerate(group)
    ]
    return [who for _, _, who in sorted(placed)]
