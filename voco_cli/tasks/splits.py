"""Which cases train, validate and are tested: public splits as files, and splits that are drawn."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from voco_cli.config.task_schema import Task
from voco_cli.data.index.case_table import is_case_name
from voco_cli.data.index.datalist import SPLITS, Entry, position
from voco_cli.data.index.datalist_file import read_text
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named, quoted

FORMAT = "voco-split/1"
SEEDED = "seeded"
SHIPPED = resources.files("voco_cli.tasks") / "presets" / "splits"


def _case(name: str) -> str:
    """Return a case that names a file or folder and nothing above or below it."""
    if not is_case_name(name):
        raise ValueError(f"{quoted(name)} is no name of a case")
    return name


def _regex(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Case = Annotated[str, AfterValidator(_case)]
Cases = tuple[Case, ...] | dict[str, tuple[Case, ...]]


class SplitFile(BaseModel):
    """Content of a file of cases. A list of cases may be keys and lists instead: category to its cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["voco-split/1"] = Field(description="name and version of this format")
    task: str = Field("", description="short name of the task")
    source: str = Field("", description="where the split comes from")
    training: Cases = Field((), description="cases to train on")
    validation: Cases = Field((), description="cases that validate")
    test: Cases = Field((), description="cases that are tested at the end")
    folds: tuple[Cases, ...] = Field((), description="in place of training and validation: one validates, others train")
    test_labelled: bool = Field(True, description="whether the test cases have public labels")
    patients: dict[Case, str] = Field(default_factory=dict, description="patient of a case, where it is not the case")
    patient_pattern: Annotated[str | None, AfterValidator(_regex)] = Field(
        None, description="regular expression that finds the patient in the name of a case"
    )


@dataclass(frozen=True)
class Split:
    """Cases by split.

    Attributes:
        words: what it is, for people.
        cases: split to its cases.
        test_labelled: whether test cases that have no label are a fault.
        patients: patient of a case, where the split knows.
        categories: category of a case, where the split knows.
        folds: how many folds there are, 0 where it is one list.
        public: whether it came with the package; each case without a patient is then a patient of its own.
    """

    words: str
    cases: Mapping[str, tuple[str, ...]]
    test_labelled: bool = True
    patients: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)
    folds: int = 0
    public: bool = False


def split_names() -> list[str]:
    """Return the names of the splits that come with the package."""
    return sorted(item.name.removesuffix(".json") for item in SHIPPED.iterdir() if item.name.endswith(".json"))


def read_split(name: str, fold: int = 0) -> Split:
    """Read a shipped split, or one of a JSON file.

    Args:
        name: of a shipped split, or a path that ends in ``.json``.
        fold: which fold validates, where there are folds.
    Raises:
        UsageError: neither, damaged, a case twice, or no such fold.
    """
    shipped = name in split_names()
    if not shipped and not name.endswith(".json"):
        raise UsageError(
            f"task.split is {name!r}, which is no split.",
            f"use {SEEDED}, a JSON file, or one of {', '.join(split_names())}",
        )
    file = _read(name, shipped)
    lists = _by_split(file, fold, name)
    listed = {split: [pair for one in lists[split] for pair in _with_categories(one)] for split in SPLITS}
    everyone = [case for pairs in listed.values() for case, _ in pairs]
    twice = sorted(case for case, count in Counter(everyone).items() if count > 1)
    if twice:
        raise UsageError(f"The split {name} lists {len(twice)} cases more than once: {named(twice)}.")
    patients = {case: match[0] for case in everyone if (match := re.search(file.patient_pattern or "(?!)", case))}
    return Split(
        words=f"{'public split' if shipped else 'split of'} {name}"
        + (f", fold {fold} of {len(file.folds)} validates" if file.folds else ""),
        cases={split: tuple(case for case, _ in pairs) for split, pairs in listed.items()},
        test_labelled=file.test_labelled,
        patients={**patients, **file.patients},
        categories={case: one for pairs in listed.values() for case, one in pairs if one is not None},
        folds=len(file.folds),
        public=shipped,
    )


def draw_split(patients: Iterable[str], task: Task, categories: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Draw the split of every patient by the hash of its name, category by category.

    In the order of `position`, the first ``task.test_patients`` are tested, the next ``task.validation_patients``
    validate and the rest trains. With categories each has its share of these numbers (see `_seats`), and the first of
    it in the same order. Where others join, those at the borders move: at most two without categories, few with them.

    Args:
        categories: patient and category of each scan of a classification; who has scans of several counts as another.
    Raises:
        UsageError: nobody is left to train on.
    """
    everyone = sorted(set(patients), key=lambda who: (position(task.split_seed, who), who))
    tested = _count(task.test_patients, len(everyone))
    validating = _count(task.validation_patients, len(everyone) - tested)
    if tested + validating >= len(everyone):
        raise UsageError(
            f"{tested} patients to test and {validating} to validate leave nobody of {len(everyone)} to train on.",
            "lower task.test_patients or task.validation_patients",
        )
    split = dict.fromkeys(everyone, "training")
    left = _by_category(everyone, categories)
    for name, wanted in (("test", tested), ("validation", validating)):
        for category, seats in _seats(wanted, {category: len(group) for category, group in left.items()}).items():
            taken, left[category] = left[category][:seats], left[category][seats:]
            split |= dict.fromkeys(taken, name)
    return split


def _by_category(ordered: Iterable[str], categories: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group patients by category, in their order; one group where there are no categories."""
    of_patient: dict[str, set[str]] = {}
    for who, category in categories:
        of_patient.setdefault(who, set()).add(category)
    groups: dict[str, list[str]] = {}
    for who in ordered:
        groups.setdefault("\n".join(sorted(of_patient.get(who, ()))), []).append(who)
    return groups


def _seats(wanted: int, there: Mapping[str, int]) -> dict[str, int]:
    """Share out ``wanted`` places among the categories: how many patients of each are held out.

    In proportion, but every category gets one before any gets two, and keeps one to train on, as far as the numbers
    allow. The rest goes by Sainte-Laguë's divisors, under which a category that grows never loses a seat.
    """
    seats = dict.fromkeys(there, 0)
    for _ in range(wanted):
        sparing = [category for category in there if seats[category] < there[category] - 1]
        open_ones = sparing or [category for category in there if seats[category] < there[category]]
        # Who has none comes first, then who has most patients for a seat; the name decides between equals.
        seats[min(open_ones, key=lambda one: (seats[one] > 0, -there[one] / (2 * seats[one] + 1), one))] += 1
    return seats


def _count(wanted: float, there: int) -> int:
    """Return a number as it is; a share of those who are there rounded, at least one."""
    if wanted >= 1 or not wanted:
        return round(wanted)
    return max(1, round(wanted * there))


def _read(name: str, shipped: bool) -> SplitFile:
    if shipped:
        text = (SHIPPED / f"{name}.json").read_text()
    else:
        try:
            text = read_text(Path(name))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"The split {name} cannot be read: {reason}.") from error
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise UsageError(f"The split {name} is not valid JSON: {error}.") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UsageError(
            f"{name} is not a split: it does not say format {FORMAT!r}.", 'see docs/guides/own_task.md, "Splits"'
        )
    try:
        return SplitFile.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"The split {name} is wrong: {_fault(error)}.") from error


def _fault(error: ValidationError) -> str:
    # Where a list could also be a mapping, the branch that got furthest is the one that was meant.
    first = max(error.errors(include_url=False), key=lambda fault: len(fault["loc"]))
    keys = [str(part) for part in first["loc"] if not str(part).startswith(("tuple[", "dict["))]
    return f"{'.'.join(keys)}: {first['msg'].removeprefix('Value error, ')}"


def _by_split(file: SplitFile, fold: int, name: str) -> dict[str, list[Cases]]:
    if not file.folds:
        if fold:
            raise UsageError(f"The split {name} has no folds, and task.fold is {fold}.")
        return {"training": [file.training], "validation": [file.validation], "test": [file.test]}
    if file.training or file.validation:
        raise UsageError(f"The split {name} has folds beside training or validation.", "keep one of the two")
    if fold >= len(file.folds):
        raise UsageError(f"The split {name} has folds 0 to {len(file.folds) - 1}, and task.fold is {fold}.")
    others = [listed for i, listed in enumerate(file.folds) if i != fold]
    return {"training": others, "validation": [file.folds[fold]], "test": [file.test]}


def _with_categories(listed: Cases) -> Iterator[tuple[str, str | None]]:
    """Yield each case and its category, if the file gives one."""
    groups = listed if isinstance(listed, dict) else {None: listed}
    for category, cases in groups.items():
        yield from ((case, category) for case in cases)


def subset(training: Sequence[Entry], task: Task, seed: int) -> tuple[Entry, ...]:
    """Choose the training cases that ``task.cases`` or ``task.fraction`` leaves, in the order of ``training``.

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
    """Put patients into their seeded order, categories interleaved by their shares."""
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
