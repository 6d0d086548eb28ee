"""The cases of a task on this machine: where the data lies, and who trains, validates and is tested."""

from __future__ import annotations

from dataclasses import dataclass

from voco_cli.dataset.datalist import Datalist
from voco_cli.settings import Settings


@dataclass(frozen=True)
class TaskData:
    """What was found.

    Attributes:
        datalist: training (all of it, before `subset`), validation and test; entries have ``case`` and, where the task
            has several channels, ``channels``; classification has ``category``.
        origin: folder or data.json that the cases come from.
        split_words: how the cases were split, one sentence for people: "public split btcv, fold 0 of 1".
        missing: cases of the split that are not there, with the file that is missing; only where they may be left out.
    """

    datalist: Datalist
    origin: str
    split_words: str
    missing: tuple[str, ...] = ()


def find_task_data(settings: Settings) -> TaskData:
    """Find the data of ``settings.task`` below ``data.root`` (or in ``data.file``) and split it."""
    raise NotImplementedError(settings.task.name)
