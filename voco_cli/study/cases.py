"""Which cases a study trains and measures on: one list for all runs, whatever their seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from voco_cli.cache.store import cache_folder
from voco_cli.dataset.datalist import SPLITS, Datalist
from voco_cli.dataset.datalist_file import read_datalist, write_datalist
from voco_cli.downstream.tasks.data import TaskData
from voco_cli.errors import UsageError
from voco_cli.settings import Settings

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
    if not any(entry.label for entry in (*datalist.test, *datalist.validation)):
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


def shared_cache(folder: Path, settings: Settings) -> Path:
    """Where all runs find their preprocessed volumes: where the data has them already, else in the study's folder."""
    return cache_folder(settings.data.file or folder / FILE, settings.cache)


def _listed(datalist: Datalist) -> list[tuple[str, str]]:
    return [(split, entry.name) for split, entry in datalist.entries()]
