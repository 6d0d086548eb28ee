"""Where the files of a case lie in a folder, by the layouts of a task."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.config import Settings
from voco_cli.config.task_schema import Layout, Task
from voco_cli.data.index.case_table import read_rows
from voco_cli.data.index.datalist import SPLITS
from voco_cli.data.index.patients import patients_of, stem_of
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named, quoted, shortened
from voco_cli.tasks.splits import Split
from voco_cli.tasks.targets import target_of

FIELD = "{case}"
DEFAULT_ROOT = Path("data")


@dataclass(frozen=True)
class Located:
    """A case and its files.

    Attributes:
        case: what stands for ``{case}`` in the layout.
        name: what the case is called: with the letters before ``{case}``, where a file is named ``img0035``.
        images: one a channel.
        label: label map; none where the layout has none, or it is not there.
        layout: by which it was found.
    """

    case: str
    name: str
    images: tuple[Path, ...]
    label: Path | None
    layout: Layout


def candidate_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders that may hold the data and exist: ``data.root`` (or ./data) and the task's folders below it.

    Raises:
        UsageError: ``data.root`` is given and is no folder, or a folder of the task does not lie below it.
    """
    task, root = settings.task, settings.data.root
    if root is not None and not root.is_dir():
        raise UsageError(f"{root} is not a folder.", "give the folder of the data with --data, VOCO_DATA or data.root")
    outside = next((name for name in task.folders if Path(name).is_absolute() or ".." in Path(name).parts), None)
    if outside is not None:
        raise UsageError(f"task.folders has {outside}, which leaves the data folder.", "name folders below data.root")
    base = root or DEFAULT_ROOT
    return tuple(folder.absolute() for folder in (base, *(base / name for name in task.folders)) if folder.is_dir())


def locate(folder: Path, task: Task, case: str, needs_label: bool) -> Located | str:
    """Find the files of a case by the first layout that fits, or else the file that is missing.

    Where several layouts fit in part, the one that fits best says what is missing.
    """
    best = (-1, f"no layout has a label map of {case}")
    for layout in task.layouts:
        if needs_label and layout.label is None:
            continue
        images = tuple(folder / pattern.replace(FIELD, case) for pattern in layout.image)
        label = folder / layout.label.replace(FIELD, case) if layout.label is not None else None
        wanted = [*images, *([label] if label is not None and needs_label else [])]
        missing = [path for path in wanted if not path.exists()]  # an image may be a folder of slices
        if not missing:
            kept = label if label is not None and label.exists() else None
            return Located(case, case_name(layout, case), images, kept, layout)
        if len(wanted) - len(missing) > best[0]:
            best = (len(wanted) - len(missing), str(missing[0].relative_to(folder)))
    return best[1]


def case_name(layout: Layout, case: str) -> str:
    """Return ``img0035`` for case 0035 of ``imagesTr/img{case}.nii.gz``: a number alone says little."""
    part = next(part for part in layout.image[0].split("/") if FIELD in part)
    return part.partition(FIELD)[0] + case


def find_cases(folder: Path, task: Task, needs_label: bool) -> tuple[dict[str, Located], tuple[str, ...]]:
    """Find all cases of a folder by the layouts of the task, an image belonging to the first layout that fits it.

    Returns:
        the cases by ``{case}``, sorted; and the images that fit a layout but for their label map.
    """
    found: dict[str, Located] = {}
    images: set[Path] = set()
    unlabelled: set[Path] = set()
    for layout in task.layouts:
        for case, first in _matching(folder, layout.image[0]):
            one = locate(folder, task.model_copy(update={"layouts": (layout,)}), case, needs_label)
            if isinstance(one, Located) and first not in images and case not in found:
                found[case] = one
                images.update(one.images)
            else:
                unlabelled.add(first)
    left = unlabelled - images - {one.label for one in found.values()}
    return dict(sorted(found.items())), tuple(sorted(str(path.relative_to(folder)) for path in left))


def patients_of_cases(cases: Iterable[Located]) -> dict[str, str]:
    """Return the patient of each case: what files' names or folders say (see `patients_of`), else the case itself."""
    listed = list(cases)
    known = patients_of(one.images[0] for one in listed)
    patients = {one.case: known[one.images[0]] for one in listed}
    return {
        one.case: one.name if patients[one.case] == stem_of(one.images[0]) else patients[one.case] for one in listed
    }


def layout_words(layout: Layout) -> str:
    """Return a layout in one line, for people."""
    return ", ".join(layout.image) + (f" with {layout.label}" if layout.label else "")


def _matching(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield the cases whose file of this pattern is there, and the file; hidden files (``._x``) are none."""
    wild = "*".join(glob.escape(part) for part in pattern.split(FIELD))
    exact = re.compile(case_regex(pattern))
    for path in sorted(folder.glob(wild)):
        place = path.relative_to(folder)
        match = exact.fullmatch(place.as_posix())
        if match and not any(part.startswith(".") for part in place.parts):
            yield match["case"], path


def case_regex(pattern: str) -> str:
    """Return a regular expression of the paths that a pattern means, with the case as the group ``case``."""
    first, *others = map(re.escape, pattern.split(FIELD))
    return first + "(?P<case>[^/]+)" + "(?P=case)".join(others)


def most_cases(folders: Sequence[Path], task: Task, cases: Iterable[str] | None) -> tuple[Path, int] | None:
    """Return the folder in which most cases are found, and their number; none where there is no folder.

    Args:
        cases: those of a split; none counts all that fit a layout.
    """
    wanted = None if cases is None else list(cases)
    needs_label = target_of(task).is_label_map

    def count(folder: Path) -> int:
        if wanted is None:
            return len(find_cases(folder, task, needs_label)[0])
        return sum(isinstance(locate(folder, task, case, False), Located) for case in wanted)

    return max(((folder, count(folder)) for folder in folders), key=lambda pair: pair[1], default=None)


SPLIT_WORDS: dict[str, str] = {name: name for name in SPLITS} | {
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
    """Read the task's table, from the first folder that has it; none where the task has no table.

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


def split_of_table(table: CaseTable, task: Task) -> Split:
    """Return the split that a table prescribes, by its column split or else fold.

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
    cases: dict[str, tuple[str, ...]] = {
        split: tuple(case for case, one in where.items() if one == split) for split in SPLITS
    }
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
