"""The evaluation of a segmentation: means by class, every case, and the words that belong to them."""

from __future__ import annotations

import math

import numpy as np

from voco_cli.document.blocks import Block, Bullets, Cell, Column, Sentence, Table, Value
from voco_cli.evaluate.segmentation.metrics import METRICS
from voco_cli.evaluate.segmentation.results import (
    NONE,
    metric_title,
    number,
    statements,
    summary_headings,
    summary_rows,
)
from voco_cli.evaluate.segmentation.table import LOWER_IS_BETTER, ResultTable, nan_mean
from voco_cli.report.measured import Segmented, seen_sentences

MOST_CASES = 500


def segmentation_blocks(measured: Segmented) -> list[Block]:
    """Return tables and statements of an evaluation."""
    evaluation = measured.evaluation
    tolerance = evaluation.options.tolerance_mm
    rows = summary_rows(evaluation.summary)
    by_class = Table.of(
        "By structure: mean ± standard deviation over cases [95 % interval of the mean]",
        summary_headings(tolerance),
        rows,
        marked=[len(rows) - 1],
        anchor="classes",
    )
    blocks: list[Block] = [by_class, *_failed(measured)]
    blocks += [_case_table(evaluation.table, metric, tolerance) for metric in METRICS]
    whose = measured.provenance.lines() if measured.provenance is not None else []
    seen = seen_sentences(measured.stored.leakage)
    return [*blocks, *seen, Bullets((*statements(evaluation), *whose, *evaluation.notes))]


def overall_words(measured: Segmented) -> str:
    """The figure of an evaluation in a few words."""
    one = measured.evaluation.summary.overall["dice"]
    cases = measured.evaluation.summary.cases
    of = f"{cases} {measured.split} case{'s' if cases != 1 else ''}"
    if math.isnan(one.mean):
        return f"mean Dice is not defined on {of}"
    interval = "" if math.isnan(one.low) else f" [{number(one.low, 'dice')}, {number(one.high, 'dice')}]"
    return f"mean Dice {number(one.mean, 'dice')}{interval} on {of}"


def case_means(table: ResultTable, metric: str = "dice") -> list[float]:
    """Mean of each case over the classes; NaN where no class has a value."""
    return [float(value) for value in nan_mean(table.of_metric(metric)[:, table.averaged], axis=1)]


def _case_table(table: ResultTable, metric: str, tolerance_mm: float) -> Table:
    """Every case under one metric: its mean and each structure; Dice open, the others folded."""
    means, values_NC = case_means(table, metric), table.of_metric(metric)
    title = metric_title(metric, tolerance_mm)
    worst_first = sorted(range(len(means)), key=lambda n: _badness(means[n], metric))
    shown = sorted(worst_first[:MOST_CASES])
    with_counts = metric == "dice"
    columns = [
        *map(Column, ("case", "patient")),
        Column("mean over classes", True),
        *(Column(one.name, True) for one in table.structures),
        *((Column("missed", True), Column("phantom", True)) if with_counts else ()),
    ]
    rows: list[list[Value]] = [
        [
            table.cases[n],
            table.patients[n],
            *(_value(value, metric) for value in (means[n], *map(float, values_NC[n]))),
            *(_counts(table, n) if with_counts else ()),
        ]
        for n in shown
    ]
    part = "" if len(shown) == len(means) else f", the {len(shown)} worst of {len(means)}; cases.csv has all"
    caption = f"{title} of every case"
    folded = "" if with_counts else caption
    anchor, searched = f"cases-{metric}", len(rows) > 20
    return Table.of(f"{caption}{part}", columns, rows, names=2, anchor=anchor, folded=folded, searched=searched)


def _badness(mean: float, metric: str) -> float:
    if math.isnan(mean):
        return math.inf
    return -mean if metric in LOWER_IS_BETTER else mean


def _counts(table: ResultTable, case: int) -> list[int]:
    states = np.array(table.states[case])
    return [int((states == word).sum()) for word in ("missed", "phantom")]


def _value(value: float, metric: str) -> Cell:
    return Cell(NONE) if math.isnan(value) else Cell(number(value, metric), value)


def _failed(measured: Segmented) -> list[Block]:
    return [Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in measured.evaluation.failed]
