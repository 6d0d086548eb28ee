"""The table of a classification: a CSV with the category of each case, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.csv_text import csv_rows
from voco_cli.dataset.text_file import read_text
from voco_cli.downstream.tasks.split import SPLIT_NAMES, Split, is_case_name, named
from voco_cli.errors import UsageError
from voco_cli.foreign_text import quoted, shortened
from voco_cli.settings.task import Task

COLUMNS = ("case", "label")
SPLIT_WORDS: dict[str, str] = {name: name for name in SPLIT_NAMES} | {
    "train": "training",
    "val": "validation",
    "valid": "validation",
}


@dataclass(frozen=True)
class CaseTable:
    """A table by case, in its order.

    Attributes:
        path: the file.
        categories: name of the class of each case.
        patients: patient of a case, where there is such a column.
        splits: split of a case, where there is such a column.
        folds: fold of a case, where there is such a column; -1 or nothing is tested.
    """

    path: Path
    categories: Mapping[str, str]
    patients: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)


def find_table(task: Task, folders: Sequence[Path]) -> CaseTable | None:
    """The task's table, from the first folder that has it; none where the task has no table.

    Raises:
        UsageError: it is nowhere, or wrong.
    """
    if task.table is None:
        return None
    places = [task.table] if task.table.is_absolute() else [folder / task.table for folder in folders]
    there = next((place for place in places if place.is_file()), None)
    if there is None:
        raise UsageError(f"The table {task.table} (task.table) is not in the data folder.", "check the path")
    return read_table(there, task)


def read_table(path: Path, task: Task) -> CaseTable:
    """Read a CSV with the columns case and label, and patient, split or fold where there are.

    A label is the name of a class of the task, or one of its values. Commas, semicolons and tabs separate.

    Raises:
        UsageError: a column is missing, a case stands twice or has no name, a label is of no class, a split or fold is
            none.
    """
    rows = read_rows(path)
    names = {str(value): one.name for one in task.classes for value in one.values}
    names |= {one.name: one.name for one in task.classes}
    odd = {case: row["label"] for case, row in rows.items() if row["label"] not in names}
    if odd:
        shown = named(f"{quoted(label)} ({shortened(case)})" for case, label in odd.items())
        raise UsageError(
            f"{path} has {len(odd)} labels that no class of the task has: {shown}.",
            f"the classes are {', '.join(one.name for one in task.classes) or 'none'}",
        )
    return CaseTable(
        path=path,
        categories={case: names[row["label"]] for case, row in rows.items()},
        patients={case: row["patient"] for case, row in rows.items() if row.get("patient")},
        splits={case: _split(row["split"], case, path) for case, row in rows.items() if "split" in row},
        folds={case: _fold(row["fold"], case, path) for case, row in rows.items() if "fold" in row},
    )


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows by case, names of columns in small letters, text without spaces around.

    Raises:
        UsageError: not to be read, a column is missing, a case stands twice or is no name.
    """
    try:
        text = read_text(path)
        first_line = text.partition("\n")[0]
        head, *lines = csv_rows(text, max(",;\t", key=first_line.count)) or [(1, [])]
    except (OSError, ValueError) as error:
        raise UsageError(f"The table {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    columns = [name.strip().lower() for name in head[1]]
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        there = shortened(", ".join(columns)) or "none"
        raise UsageError(
            f"{path} has no column {' and none '.join(lacking)}; its columns are {there}.",
            "a table has the columns case and label, and may have patient, split or fold",
        )
    rows: dict[str, dict[str, str]] = {}
    for number, values in lines:
        if not any(value.strip() for value in values):
            continue
        row = dict(zip(columns, (value.strip() for value in values), strict=False))
        case = row.get("case", "")
        if not is_case_name(case):
            raise UsageError(f"{path}:{number}: {quoted(case)} is no name of a case.")
        if case in rows:
            raise UsageError(f"{path}:{number}: the case {shortened(case)} stands twice.")
        rows[case] = {name: row.get(name, "") for name in columns}
    return rows


def split_of_table(table: CaseTable, task: Task) -> Split:
    """The split that a table prescribes, by its column split or else fold.

    Raises:
        UsageError: it has neither, or no such fold.
    """
    if table.splits:
        where, words = table.splits, f"split of {table.path}"
    elif table.folds:
        known = sorted({fold for fold in table.folds.values() if fold >= 0})
        if task.fold not in known:
            raise UsageError(f"{table.path} has the folds {named(map(str, known))}, and task.fold is {task.fold}.")
        where = {case: _of_fold(fold, task.fold) for case, fold in table.folds.items()}
        words = f"folds of {table.path}, fold {task.fold} of {len(known)} validates"
    else:
        raise UsageError(
            f"{table.path} says nothing of splits, and task.split is not given.",
            "set task.split=seeded, or add a column split (training, validation, test) or fold (0, 1, ...)",
        )
    cases = {split: tuple(case for case, one in where.items() if one == split) for split in SPLIT_NAMES}
    return Split(words, cases, patients=table.patients, categories=table.categories)


def _of_fold(fold: int, validating: int) -> str:
    return "test" if fold < 0 else "validation" if fold == validating else "training"


def _split(word: str, case: str, path: Path) -> str:
    if word.lower() not in SPLIT_WORDS:
        raise UsageError(
            f"{path} puts {shortened(case)} into the split {quoted(word)}; there are training, validation and test."
        )
    return SPLIT_WORDS[word.lower()]


def _fold(word: str, case: str, path: Path) -> int:
    try:
        return int(word) if word else -1
    except ValueError as error:
        raise UsageError(f"{path} gives {shortened(case)} the fold {quoted(word)}, which is no number.") from error
