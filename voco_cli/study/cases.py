"""Which cases a study trains and measures on: one list for all runs, whatever their seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from voco_cli.cache.store import cache_folder
from voco_cli.dataset.datalist import SPLITS, Datalist
from voco_cli.dataset.datalist_file import read_datalist, write_datalist
from voco_cli.downstream.tasks.data import TaskData
from voco_cli.downstream.tasks.subset import subset
from voco_cli.errors import UsageError
from voco_cli.settings import Settings
from voco_cli.settings.task import Task

FILE = "data.json"


def fix_cases(folder: Path, settings: Settings, largest: int, find: Callable[[Settings], TaskData]) -> TaskData:
    """Keep the split in the study's folder: found and checked once, and all runs share the cache beside it.

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
    path = folder / FILE
    if path.is_file() and _listed(before := read_datalist(path, check_files=False)) != _listed(datalist):
        now, then = (" + ".join(str(len(getattr(one, split))) for split in SPLITS) for one in (datalist, before))
        raise UsageError(
            f"{folder} was started with other cases: {then} to train, validate and test, and now {now}.",
            "give the same data to go on, or another folder with -o",
        )
    write_datalist(datalist, path)
    return data


def require_categories(data: TaskData, task: Task, sizes: Sequence[int], seeds: Sequence[int]) -> None:
    """See that every subset of a classification has two categories, which its run would refuse to do without.

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
    """Where all runs find their preprocessed volumes: where the data has them already, else in the study's folder."""
    return cache_folder(settings.data.file or folder / FILE, settings.cache)


def _listed(datalist: Datalist) -> list[tuple[str, str]]:
    return [(split, entry.name) for split, entry in datalist.entries()]
