"""One look at every label map before training: which values there are, and where each class can be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.downstream.batches.label_values import IGNORED, index_table, unlisted_values
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.errors import DataError
from voco_cli.method.draws import counter_generator
from voco_cli.settings.task import Task

MOST_POINTS = 1000
MOST_NAMED = 5

ANNOTATED = 0
"""In place of a class index: of any annotated voxels, background among them; only where others are ignored."""
Points = Mapping[int, NDArray[np.int16]]
"""Class index, or `ANNOTATED`, to places_P3 of some of its voxels."""


@dataclass(frozen=True)
class LabelSurvey:
    """What one label map holds.

    Attributes:
        points: for each class that is there, and for what is annotated where not all is, up to `MOST_POINTS` of its
            voxels, drawn evenly.
        unlisted: label values that no class has.
    """

    points: Points
    unlisted: tuple[int, ...]


def survey_label(case: StoredCase, task: Task) -> LabelSurvey:
    """Decode the label map of a case and note where its classes lie; the same case gives the same points.

    Raises:
        DataError: the label map is missing or damaged.
    """
    labels = case.volumes[0].read_label((0, 0, 0), case.shape_xyz)
    found = np.flatnonzero(np.bincount(labels.ravel()))
    indices = index_table(task.classes, task.ignore_value)[labels].ravel()
    groups: dict[int, NDArray[np.intp]] = {}
    foreground = np.flatnonzero(indices)
    if task.ignore_value is not None and task.ignore_value in found:
        groups[ANNOTATED] = np.flatnonzero(indices != IGNORED)
        foreground = np.flatnonzero((indices != 0) & (indices != IGNORED))
    order = foreground[np.argsort(indices[foreground], kind="stable")]
    generator = counter_generator(0, 0, case.name, "points")
    points = {}
    by_class = np.split(order, np.flatnonzero(np.diff(indices[order])) + 1)
    for index, group in {**{int(indices[one[0]]): one for one in by_class if one.size}, **groups}.items():
        if group.size:
            chosen = group if group.size <= MOST_POINTS else generator.choice(group, MOST_POINTS, replace=False)
            places = np.stack(np.unravel_index(chosen, labels.shape), axis=1)
            points[index] = places.astype(np.int16)
    return LabelSurvey(points, tuple(unlisted_values(found.tolist(), task.classes, task.ignore_value)))


def survey_labels(
    cases: Sequence[StoredCase], task: Task, on_done: Callable[[], None] = lambda: None
) -> dict[str, Points]:
    """Points of all cases by name; label values outside the classes are refused where the task says so.

    Raises:
        DataError: label values that no class has, with the files that hold them.
    """
    points, faults = {}, []
    for case in cases:
        survey = survey_label(case, task)
        points[case.name] = survey.points
        if survey.unlisted:
            faults.append(f"{case.entry.label} holds {', '.join(map(str, survey.unlisted))}")
        on_done()
    if faults and task.unlisted == "refuse":
        more = f" and {len(faults) - MOST_NAMED} more files" if len(faults) > MOST_NAMED else ""
        raise DataError(
            f"Label values that no class of the task {task.name} has: {'; '.join(faults[:MOST_NAMED])}{more}.",
            "add the classes to the task, or set task.unlisted=background to take them as background",
        )
    return points
