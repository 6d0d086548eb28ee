"""The evaluation of a segmentation: means by class, every case, and the words that belong to them."""

from __future__ import annotations

import math

import numpy as np

from voco_cli.document.blocks import Block, Bullets, Cell, Column, Row, Sentence, Table, text_table
from voco_cli.evaluate.segmentation.metrics import METRICS, metric_title
from voco_cli.evaluate.segmentation.results import statements, summary_headings, summary_rows
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.statistics import nan_mean
from voco_cli.evaluate.tables import NONE, figure, with_interval
from voco_cli.report.measured import Segmented, seen_sentences

MOST_CASES = 500


def segmentation_blocks(prefix: str, measured: Segmented) -> list[Block]:
    """Tables and statements of an evaluation."""
    evaluation = measured.evaluation
    tolerance = evaluation.options.tolerance_mm
    rows = summary_rows(evaluation.summary)
    by_class = text_table(
        f"{prefix}-classes",
        "By structure: mean ± standard deviation over cases [95 % interval of the mean]",
        summary_headings(tolerance),
        rows,
        marked=[len(rows) - 1],
    )
    blocks: list[Block] = [by_class, *_failed(measured)]
    blocks += [_case_table(prefix, evaluation.table, metric, tolerance) for metric in METRICS]
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
    return f"mean Dice {with_interval(one.mean, one.low, one.high)} on {of}"


def case_means(table: ResultTable, metric: str = "dice") -> list[float]:
    """Mean of each case over the classes; NaN where no class has a value."""
    return [float(value) for value in nan_mean(table.of_metric(metric)[:, table.averaged], axis=1)]


def _case_table(prefix: str, table: ResultTable, metric: str, tolerance_mm: float) -> Table:
    """Every case under one metric: its mean and each structure; Dice open, the others folded."""
    means, values_NC = case_means(table, metric), table.of_metric(metric)
    title = metric_title(metric, tolerance_mm)
    worst_first = sorted(range(len(means)), key=lambda n: _badness(means[n], metric))
    shown = sorted(worst_first[:MOST_CASES])
    with_counts = metric == "dice"
    columns = (
        Column("case"),
        Column("patient"),
        Column("mean over classes", True),
        *(Column(one.name, True) for one in table.structures),
        *((Column("missed", True), Column("false positive", True)) if with_counts else ()),
    )
    rows = tuple(
        Row(
            (
                Cell(table.cases[n]),
                Cell(table.patients[n]),
                _value(means[n], metric),
                *(_value(float(value), metric) for value in values_NC[n]),
                *(_counts(table, n) if with_counts else ()),
            )
        )
        for n in shown
    )
    part = "" if len(shown) == len(means) else f", the {len(shown)} worst of {len(means)}; cases.csv has all"
    folded = "" if with_counts else f"{title} of every case"
    caption = f"{title} of every case{part}"
    return Table(f"{prefix}-cases-{metric}", caption, columns, rows, folded, searched=len(rows) > 20, names=2)


def _badness(mean: float, metric: str) -> float:
    if math.isnan(mean):
        return math.inf
    return -mean if METRICS[metric].lower_is_better else mean


def _counts(table: ResultTable, case: int) -> tuple[Cell, Cell]:
    states = np.array(table.states[case])
    missed, added = (int((states == word).sum()) for word in ("missed", "false_positive"))
    return Cell(str(missed), missed), Cell(str(added), added)


def _value(value: float, metric: str) -> Cell:
    return Cell(NONE) if math.isnan(value) else Cell(figure(value, METRICS[metric].digits), value)


def _failed(measured: Segmented) -> list[Block]:
    return [Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in measured.evaluation.failed]
