"""Tables of cases as people write them (CSV, semicolons, tabs), and what they say of whole scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.csv_text import csv_rows
from voco_cli.data.index.class_map import ClassMap
from voco_cli.data.index.datalist import Entry, is_file_name
from voco_cli.data.index.datalist_file import read_text
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named, quoted, shortened

COLUMNS = ("case", "label")
"""Of a table of categories."""
NOT_CLASSES = ("case", "patient", "split", "fold")
"""Columns that say no class of a scan."""
ANSWERS: dict[str, bool | None] = {
    **dict.fromkeys(("1", "yes", "true", "y"), True),
    **dict.fromkeys(("0", "no", "false", "n"), False),
    **dict.fromkeys(("", "unknown", "nan"), None),
}


def is_case_name(name: str) -> bool:
    """Return whether a case may be called so: a name of a file on any system, which is not hidden."""
    return is_file_name(name) and not name.startswith(".") and "\\" not in name


def read_rows(path: Path, needed: Sequence[str] = COLUMNS, hint: str | None = None) -> dict[str, dict[str, str]]:
    """Read rows by case, text without spaces around. Columns that are needed or in `NOT_CLASSES` are in small letters.

    Args:
        needed: columns that must be there, ``case`` among them.
        hint: which columns there are, for messages.
    Raises:
        UsageError: not to be read, a column is missing or twice, a case stands twice or is no name, a row has more
            cells than there are columns.
    """
    try:
        text = read_text(path)
        first_line = text.partition("\n")[0]
        head, *lines = csv_rows(text, max(",;\t", key=first_line.count)) or [(1, [])]
    except (OSError, ValueError) as error:
        raise UsageError(f"The table {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    stripped = [name.strip() for name in head[1]]
    columns = [name.lower() if name.lower() in (*needed, *NOT_CLASSES) else name for name in stripped]
    if lacking := [name for name in needed if name not in columns]:
        there = shortened(", ".join(columns)) or "none"
        raise UsageError(
            f"{path} has no column {' and none '.join(lacking)}; its columns are {there}.",
            hint or "a table has the columns case and label, and may have patient, split or fold",
        )
    if twice := next((name for name in columns if name and columns.count(name) > 1), None):
        raise UsageError(f"{path} has the column {quoted(twice)} twice.", "keep one of them")
    rows: dict[str, dict[str, str]] = {}
    for number, values in lines:
        if not any(value.strip() for value in values):
            continue
        if any(value.strip() for value in values[len(columns) :]):
            raise UsageError(
                f"{path}:{number}: the row has {len(values)} cells, and the table {len(columns)} columns.",
                "a cell with a comma in it stands in quotation marks",
            )
        row = dict(zip(columns, (value.strip() for value in values), strict=False))
        case = row.get("case", "")
        if not is_case_name(case):
            raise UsageError(f"{path}:{number}: {quoted(case)} is no name of a case.")
        if case in rows:
            raise UsageError(f"{path}:{number}: the case {shortened(case)} stands twice.")
        rows[case] = {name: row.get(name, "") for name in columns}
    return rows


@dataclass(frozen=True)
class ScanLabelTable:
    """What a table says of whole scans.

    Attributes:
        path: of the table.
        columns: its classes, in its order.
        answers: case to class to whether it is somewhere in the scan; what nobody knows is not in it.
    """

    path: Path
    columns: tuple[str, ...]
    answers: Mapping[str, Mapping[str, bool]]


def read_scan_labels(path: Path) -> ScanLabelTable:
    """Read a table with a row a scan: the column case, and a column for each class with 1, 0, or nothing for unknown.

    Raises:
        UsageError: as `read_rows`; no column of a class, a cell that is no answer, or none that is one.
    """
    rows = read_rows(path, ("case",), "a table of scan labels has the column case, and one for each class")
    columns = tuple(name for name in next(iter(rows.values()), {}) if name and name not in NOT_CLASSES)
    if not columns:
        raise UsageError(f"{path} has no scan labels.", "give it a column for each class, with 1, 0 or nothing")
    odd = {case: name for case, row in rows.items() for name in columns if row[name].lower() not in ANSWERS}
    if odd:
        case, name = next(iter(odd.items()))
        raise UsageError(
            f"{path} says {quoted(rows[case][name])} of {shortened(name)} in {shortened(case)}, which is no answer.",
            "a cell is 1 or 0, yes or no, or empty where nobody knows",
        )
    answers = {case: {name: ANSWERS[row[name].lower()] for name in columns} for case, row in rows.items()}
    known = {case: {n: said for n, said in row.items() if said is not None} for case, row in answers.items()}
    if not any(known.values()):
        raise UsageError(f"{path} says nothing of any scan: all its cells are empty or unknown.", "a cell is 1 or 0")
    return ScanLabelTable(path, columns, known)


def with_scan_labels(
    entries: Sequence[Entry], table: ScanLabelTable | None, class_map: ClassMap
) -> tuple[list[Entry], tuple[str, ...], list[str]]:
    """Return the entries with their scan labels, those of a table and of lists, the classes, and what is to be told.

    A scan is named as its case is, or by its file; where two say the opposite, nobody knows.

    Args:
        table: none keeps those that lists have.
        class_map: renames classes and leaves some out; a name of the table alone is ``TABLE/NAME``.
    Raises:
        UsageError: no row of the table names a scan.
    """
    label_set = table.path.stem if table else ""
    rows = table.answers if table else {}
    known, told = _by_image(entries, rows), []
    matched = {case for found in known.values() for case in found}
    if rows and not matched:
        names = named((entry.name for entry in entries), 3)
        raise UsageError(
            f"{table.path if table else ''} names none of the scans ({named(rows, 3)}).",
            f"its column case has names such as {names}",
        )
    if lost := [case for case in rows if case not in matched]:
        count = "1 case that names" if len(lost) == 1 else f"{len(lost)} cases that name"
        told.append(f"{table.path if table else ''} has {count} no single scan here: {named(lost)}.")
    labelled, disputed = [], []
    for entry in entries:
        said = [(name, yes) for case in known.get(entry.image, ()) for name, yes in rows[case].items()]
        answers: dict[str, set[bool]] = defaultdict(set)
        for name, yes in (*entry.scan_labels.items(), *said):
            if not class_map.leaves_out(label_set, name):
                answers[class_map.merged_name(label_set, name)].add(yes)
        disputed += [f"{name} in {entry.name}" for name, both in answers.items() if len(both) > 1]
        sure = {name: both.pop() for name, both in answers.items() if len(both) == 1}
        labelled.append(entry.model_copy(update={"scan_labels": sure}) if sure != entry.scan_labels else entry)
    if disputed:
        told.append(f"Scan labels say yes and no of {named(disputed)}, which count as unknown.")
    there = dict.fromkeys(name for entry in labelled for name in entry.scan_labels)
    columns = (class_map.merged_name(label_set, name) for name in (table.columns if table else ()))
    first = dict.fromkeys(name for name in columns if name in there)
    return labelled, tuple({**first, **there}), told


def _by_image(entries: Sequence[Entry], rows: Iterable[str]) -> dict[Path, list[str]]:
    """Return the rows that mean the scan of each image; a file name that several scans have means none."""
    by_name = {entry.name: entry.image for entry in entries}
    by_file: dict[str, list[Path]] = defaultdict(list)
    for entry in entries:
        by_file[entry.image.name].append(entry.image)
    found: dict[Path, list[str]] = defaultdict(list)
    for case in rows:
        files = by_file.get(case, [])
        image = by_name.get(case) or (files[0] if len(files) == 1 else None)
        if image is not None:
            found[image].append(case)
    return found
