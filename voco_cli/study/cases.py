"""Which cases a study trains and measures on: one list for all runs, whatever their seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from voco_cli.atomic_files import write_atomic
from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.cache.entry import content_identity
from voco_cli.data.cache.store import cache_folder
from voco_cli.data.index.datalist import SPLITS, Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import named
from voco_cli.study.record import CASES
from voco_cli.tasks.find_data import TaskData
from voco_cli.tasks.splits import subset

CONTENTS = "contents.json"
FORMAT = "voco-study-contents/1"
Contents = Mapping[str, tuple[str | None, str | None]]
"""Case to the stamp of its files and the hash of all they hold."""


def find_cases(folder: Path, settings: Settings, largest: int, find: Callable[[Settings], TaskData]) -> TaskData:
    """Find and check the cases that all runs share; nothing is written yet.

    Args:
        settings: of any run.
        largest: number of labelled cases that is asked for.
        find: as `find_task_data`.
    Raises:
        UsageError: fewer cases than that, none to measure on, or other cases than the study began with.
    """
    data = find(settings)
    datalist = data.datalist
    if largest > len(datalist.training):
        raise UsageError(
            f"{data.origin} has {len(datalist.training)} cases to train on, and {largest} are asked for.",
            "lower --cases",
        )
    if not any(entry.label or entry.category for entry in (*datalist.test, *datalist.validation)):
        raise UsageError(
            f"{data.origin} has no labelled case to measure on.", "task.split=seeded with task.test_patients draws some"
        )
    path = folder / CASES
    if path.is_file() and _listed(before := read_datalist(path, check_files=False)) != _listed(datalist):
        now, then = (" + ".join(str(len(getattr(one, split))) for split in SPLITS) for one in (datalist, before))
        differ = sorted({name for _, name, _ in set(_listed(before)) ^ set(_listed(datalist))})
        raise UsageError(
            f"{folder} was started with other cases: {then} to train, validate and test, and now {now}; "
            f"{named(differ, 3) or 'their order'} differ.",
            "give the same data to go on, or another folder with -o",
        )
    return data


def case_contents(folder: Path, datalist: Datalist) -> Contents:
    """Return hashes of each case's files, read anew only where size, time or samples changed since the study began.

    Raises:
        UsageError: files hold something else than when the study began, under the same names.
        DataError: the record of it is damaged.
    """
    before = _read_contents(folder / CONTENTS)
    now = {entry.name: _content(entry, before.get(entry.name)) for _, entry in datalist.entries()}
    changed = [name for name, content in now.items() if before.get(name, content)[1] != content[1]]
    if changed:
        raise UsageError(
            f"{folder} was started with other scans or label maps than the files hold now of {named(changed, 3)}.",
            "put the old files back to go on, or give another folder with -o",
        )
    return now


def fix_cases(folder: Path, datalist: Datalist, contents: Contents) -> None:
    """Keep the cases in the study's folder: found and checked once, and all runs share the cache beside it.

    Raises:
        ResourceError: the disk is full.
    """
    write_datalist(datalist, folder / CASES)
    held = {"format": FORMAT, "cases": contents}
    write_atomic(folder / CONTENTS, json.dumps(held, indent=1).encode() + b"\n")


def require_categories(data: TaskData, task: Task, sizes: Sequence[int], seeds: Sequence[int]) -> None:
    """Raise if a subset of a classification has one category only, which its run would refuse.

    Raises:
        UsageError: one has not.
    """
    if task.kind != "classification":
        return
    for size, seed in product(sizes, seeds):
        chosen = subset(data.datalist.training, task.model_copy(update={"cases": size}), seed)
        categories = {entry.category for entry in chosen}
        if len(categories) < 2:
            raise UsageError(
                f"With {size} labelled case{'s' if size > 1 else ''} and seed {seed} there is only the category "
                f"{categories.pop()}, and two are needed to learn from.",
                "raise the numbers of --cases",
            )


def shared_cache(folder: Path, settings: Settings) -> Path:
    """Return the folder of all runs' preprocessed volumes: where the data has them already, else in the study's."""
    return cache_folder(settings.data.file or folder / CASES, settings.cache)


def _listed(datalist: Datalist) -> list[tuple[str, str, str | None]]:
    return [(split, entry.name, entry.category) for split, entry in datalist.entries()]


def _read_contents(path: Path) -> Contents:
    try:
        held = json.loads(path.read_bytes())
        if held["format"] != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        return {str(name): (stamp, content) for name, (stamp, content) in held["cases"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read: {words}.", "give another folder with -o") from error


def _content(entry: Entry, before: tuple[str | None, str | None] | None) -> tuple[str | None, str | None]:
    """Return a quick stamp of a case's files and a hash of all their bytes; none of a file that is not there."""
    try:
        stamp = _identity(entry, full_hash=False)
        return before if before and before[0] == stamp else (stamp, _identity(entry, full_hash=True))
    except DataError:
        return (None, None)


def _identity(entry: Entry, full_hash: bool) -> str:
    digest = hashlib.blake2b(content_identity(entry.image, full_hash, entry.files), digest_size=16)
    for path in (*entry.channels, *([entry.label] if entry.label else [])):
        digest.update(content_identity(path, full_hash))
    return digest.hexdigest()
