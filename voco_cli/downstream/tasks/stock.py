"""What of a task's cases a data folder holds, before anything is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from voco_cli.downstream.tasks.folder import (
    DEFAULT_ROOT,
    Located,
    candidate_folders,
    find_cases,
    layout_words,
    locate,
    most_cases,
    patients_of_cases,
)
from voco_cli.downstream.tasks.split import (
    SEEDED,
    SPLIT_NAMES,
    Split,
    draw_split,
    read_split,
    seeded_words,
    split_names,
)
from voco_cli.downstream.tasks.table import CaseTable, find_table, split_of_table
from voco_cli.errors import UsageError
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


@dataclass(frozen=True)
class Stock:
    """A folder against the cases of a split.

    Attributes:
        folder: the one in which most cases are.
        split: who trains, validates and is tested.
        found: cases that are there, by case.
        missing: the file that is missing, by case.
        unlabelled: images that would be a case, had they a label map; only where cases are looked for.
    """

    folder: Path
    split: Split
    found: Mapping[str, Located]
    missing: Mapping[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()

    def of_split(self, split: str) -> tuple[list[Located], list[str]]:
        """Cases of a split that are there, and those that are not."""
        cases = self.split.cases[split]
        return [self.found[case] for case in cases if case in self.found], [c for c in cases if c in self.missing]


def take_stock(settings: Settings) -> Stock:
    """Look for the cases of a task below ``data.root``, or ./data.

    Raises:
        UsageError: there is no such folder, or no case in any of those that come into question; the split or the table
            is wrong.
    """
    task = settings.task
    if not task.layouts:
        raise UsageError(
            f"The task {task.name or task.preset} has neither data.file nor task.layouts, so its data cannot be found.",
            "give a data.json with --data, or say in task.layouts where images and labels lie",
        )
    folders = candidate_folders(settings)
    table = find_table(task, folders) if folders else None
    split = _prescribed(task, table)
    cases = _wanted(split, table)
    best = most_cases(folders, task, cases)
    if best is None or best[1] == 0:
        raise _nothing(settings, best[0] if best else None, len(cases) if cases is not None else None)
    if split is not None:
        return _against(best[0], task, split)
    return _drawn(best[0], settings, table)


def _wanted(split: Split | None, table: CaseTable | None) -> list[str] | None:
    """The cases that should be there; none where whatever is found will do."""
    if split is not None:
        return [case for name in SPLIT_NAMES for case in split.cases[name]]
    return None if table is None else list(table.categories)


def _prescribed(task: Task, table: CaseTable | None) -> Split | None:
    """The split that a file or the table gives, with what the table knows; none for a drawn one."""
    if task.kind == "classification" and table is None and task.split == SEEDED:
        raise UsageError(
            "A classification whose split is drawn needs a table of categories.", "give task.table, a CSV of cases"
        )
    if task.split == SEEDED:
        return None
    if task.split is None:
        if table is None:
            raise UsageError(
                f"The task {task.name or task.preset} says nothing of splits (task.split).",
                f"set task.split to {SEEDED}, to a JSON file, or to one of {', '.join(split_names())}",
            )
        return split_of_table(table, task)
    split = read_split(task.split, task.fold)
    if table is None:
        return split
    return replace(
        split,
        patients={**split.patients, **table.patients},
        categories={**split.categories, **table.categories},
    )


def _against(folder: Path, task: Task, split: Split) -> Stock:
    found: dict[str, Located] = {}
    missing: dict[str, str] = {}
    for name in SPLIT_NAMES:
        needs_label = task.kind == "segmentation" and (name != "test" or split.test_labelled)
        for case in split.cases[name]:
            one = locate(folder, task, case, needs_label)
            if isinstance(one, Located):
                found[case] = one
            else:
                missing[case] = one
    own = {case: one.name for case, one in found.items()} if split.public else patients_of_cases(found.values())
    return Stock(folder, replace(split, patients={**own, **split.patients}), found, missing)


def _drawn(folder: Path, settings: Settings, table: CaseTable | None) -> Stock:
    task = settings.task
    missing: dict[str, str] = {}
    unlabelled: tuple[str, ...] = ()
    if table is None:
        found, unlabelled = find_cases(folder, task, needs_label=True)
    else:
        looked_for = {case: locate(folder, task, case, False) for case in table.categories}
        found = {case: one for case, one in looked_for.items() if isinstance(one, Located)}
        missing = {case: one for case, one in looked_for.items() if isinstance(one, str)}
    patients = {**patients_of_cases(found.values()), **{case: case for case in missing}}
    patients |= table.patients if table else {}
    of_cases = table.categories if table and task.kind == "classification" else {}
    categories = ((patients[case], of_cases[case]) for case in found if case in of_cases)
    drawn = draw_split((patients[case] for case in found), task, categories)
    # A case that is missing belongs to where its patient is, or would train; it only has to be counted somewhere.
    where = {case: drawn.get(patients[case], "training") for case in (*found, *missing)}
    split = Split(
        words=seeded_words(task),
        cases={name: tuple(case for case in where if where[case] == name) for name in SPLIT_NAMES},
        patients=patients,
        categories=table.categories if table else {},
    )
    return Stock(folder, split, found, missing, unlabelled)


def _nothing(settings: Settings, folder: Path | None, wanted: int | None) -> UsageError:
    task, root = settings.task, settings.data.root
    if folder is None:
        what = f"The data of {task.name} is nowhere: there is no folder {DEFAULT_ROOT}, and no other was given."
    elif wanted is None:
        what = f"{root or DEFAULT_ROOT} holds no case of {task.name}."
    else:
        what = f"{root or DEFAULT_ROOT} holds none of the {wanted} cases of {task.name}."
    below = f" (or in {', '.join(task.folders)} below it)" if task.folders else ""
    where = f"; to be had at: {task.source}" if task.source else ""
    return UsageError(
        what,
        f"give the folder with --data or VOCO_DATA; expected in it{below}: {layout_words(task)}{where}",
    )
