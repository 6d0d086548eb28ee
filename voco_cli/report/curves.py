"""From the lines of metrics.jsonl to the charts of a report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.document.blocks import Chart, Charts, Sentence
from voco_cli.document.charts import COLOURS, Curve, Point, draw_chart
from voco_cli.training.loggers import read_metrics


def finite(value: object) -> float | None:
    """Return a number as a float; None for true, false, what is not finite, too great for a float, or no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


Levels = Mapping[str, float]

NO_TERMS = frozenset({"lr", "compute_s", "cases_per_s", "data_wait", "grad_norm", "accuracy"})
"""What a line of training holds besides terms of the loss."""
GREATEST_STEP = 10**15
"""A greater one is damage; up to here steps are exact in a drawing and in a browser."""
MOST_CLASSES = 6
"""Beyond so many classes a chart shows their mean alone."""


@dataclass(frozen=True)
class Metrics:
    """What a run wrote down on the way: points by split (train, validation) and name, in order of the steps."""

    by_split: Mapping[str, Mapping[str, tuple[Point, ...]]]

    def names(self, split: str) -> list[str]:
        """Return the names of a split, in the order in which they came."""
        return list(self.by_split.get(split, {}))

    def points(self, split: str, name: str) -> tuple[Point, ...]:
        """Return the values of one name; none where it never was."""
        return self.by_split.get(split, {}).get(name, ())

    def figures(self, step: int) -> dict[str, float]:
        """Return the figures of one validation."""
        found = ((name, dict(points).get(step)) for name, points in self.by_split.get("validation", {}).items())
        return {name: value for name, value in found if value is not None}

    @property
    def validated(self) -> list[int]:
        """Return the steps of the validations."""
        return sorted({step for points in self.by_split.get("validation", {}).values() for step, _ in points})


@dataclass(frozen=True)
class Wanted:
    """A chart that a report would like to have.

    Attributes:
        names: of the values; what a run did not write is left out.
        levels: value names whose level is drawn, such as the rank of chance.
    """

    title: str
    split: str
    names: tuple[str, ...]
    zero: bool = False
    levels: tuple[str, ...] = ()


FIGURES = (
    Wanted("Rank of the true base crop (0 is best)", "validation", ("rank", "cross_rank"), True, ("rank",)),
    Wanted("Correlation and top-1", "validation", ("correlation", "top1"), True, ("top1",)),
    Wanted("Effective rank of the base embeddings (a few is collapse)", "validation", ("effective_rank",), True),
    Wanted("Base crops alike, labels missed", "validation", ("base_cosine", "label_error", "dead_true"), True),
    Wanted("Distance of student and teacher", "validation", ("teacher_distance",), True),
)
PROGRESS = (
    Wanted("Learning rate", "train", ("lr",), True),
    Wanted("Gradient norm", "train", ("grad_norm",), True),
    Wanted("Throughput (scans a second)", "train", ("cases_per_s",), True),
    Wanted("Share of time spent waiting for data", "train", ("data_wait",), True),
)
COMPARED = (
    Wanted("Loss", "train", ("loss",), True),
    *(
        Wanted(title, "validation", (name,), True, levels)
        for title, name, levels in (
            ("Rank of the true base crop (0 is best)", "rank", ("rank",)),
            ("Correlation of logits and labels", "correlation", ()),
            ("Top-1", "top1", ("top1",)),
            ("Effective rank of the base embeddings (a few is collapse)", "effective_rank", ()),
            ("Mean cosine of base crops", "base_cosine", ()),
        )
    ),
)
WORDS = {
    "cross_rank": "rank in another scan",
    "top1": "top-1",
    "base_cosine": "base cosine",
    "label_error": "label error",
    "dead_true": "true base without gradient",
    "effective_rank": "effective rank",
    "teacher_distance": "1 - cosine",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "cases_per_s": "scans a second",
    "data_wait": "waiting",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "f1": "macro F1",
    "dice": "mean Dice",
}


def read_curves(path: Path) -> Metrics:
    """Read the values of metrics.jsonl; lines that hold no step are passed over, as is what is no number."""
    return gather_values(read_metrics(path))


def gather_values(records: Iterable[Mapping[str, Any]]) -> Metrics:
    """Return the points of each name from records such as ``{"step": 4, "split": "train", "loss": 0.5}``."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        step = record.get("step")
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= GREATEST_STEP:
            continue
        of_split = found.setdefault(str(record.get("split")), {})
        for name, held in record.items():
            value = None if name in ("step", "split") else finite(held)
            if value is not None:
                of_split.setdefault(name, {})[step] = value
    return Metrics(
        {split: {name: tuple(sorted(of.items())) for name, of in names.items()} for split, names in found.items()}
    )


def pretraining_charts(metrics: Metrics, chance: Levels, labels: Mapping[str, str] | None = None) -> list[Chart]:
    """Return charts of loss terms, figures on held-out scans, and the speed of training.

    Args:
        chance: level of a figure, drawn across its chart.
        labels: what figures are called that have no chart of their own here; each gets one.
    """
    known = {name for one in FIGURES for name in one.names}
    others = [name for name in metrics.names("validation") if name not in known]
    more = [Wanted((labels or {}).get(name, name), "validation", (name,), True, (name,)) for name in others]
    return _drawn(metrics, [_loss(metrics), *FIGURES, *more, *PROGRESS], chance)


def finetuning_charts(metrics: Metrics) -> list[Chart]:
    """Return charts of the loss, figures on validation cases, and the speed of training."""
    names = metrics.names("validation")
    classes = tuple(name for name in names if name.startswith("dice/"))
    shown = ("dice", *(classes if len(classes) <= MOST_CLASSES else ()))
    figures = (
        Wanted("Dice of the validation cases", "validation", shown, True),
        Wanted("Figures of the validation cases", "validation", ("auc", "accuracy", "balanced_accuracy", "f1"), True),
        Wanted("Loss of the validation cases", "validation", ("loss",), True),
        Wanted("Accuracy on training batches", "train", ("accuracy",), True),
    )
    return _drawn(metrics, [_loss(metrics), *figures, *PROGRESS], {})


def compared_charts(runs: Sequence[tuple[str, Metrics]], chance: Levels) -> list[Chart]:
    """Return one chart a value, with one line a run."""
    found = []
    for one in COMPARED:
        lines = [(name, metrics.points(one.split, one.names[0])) for name, metrics in runs]
        found.append(_draw(one, lines, chance))
    return [chart for chart in found if chart is not None]


def shown_charts(charts: Sequence[Chart]) -> Charts | Sentence:
    """Return the charts, or the sentence that there are none."""
    if charts:
        return Charts(tuple(charts))
    return Sentence("Nothing was written to metrics.jsonl yet, so there are no curves.", "warning")


def _loss(metrics: Metrics) -> Wanted:
    terms = [name for name in metrics.names("train") if name not in NO_TERMS]
    return Wanted("Loss and its terms", "train", tuple(terms[:COLOURS]), True)


def _drawn(metrics: Metrics, wanted: Sequence[Wanted], chance: Levels) -> list[Chart]:
    found = []
    for one in wanted:
        lines = [(WORDS.get(name, name.removeprefix("dice/")), metrics.points(one.split, name)) for name in one.names]
        found.append(_draw(one, lines, chance))
    return [chart for chart in found if chart is not None]


def _draw(one: Wanted, lines: Sequence[tuple[str, tuple[Point, ...]]], chance: Levels) -> Chart | None:
    curves = [Curve(name, points, number + 1) for number, (name, points) in enumerate(lines)]
    return draw_chart(one.title, curves, _levels(one, chance), zero=one.zero)


def _levels(one: Wanted, chance: Levels) -> list[tuple[float, str]]:
    names = [name for name in one.levels if name in chance]
    several = len(one.names) > 1
    return [
        (chance[name], f"chance, {WORDS.get(name, name)}" if several and name != "rank" else "chance") for name in names
    ]
