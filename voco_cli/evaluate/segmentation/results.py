"""A measured segmentation, and its files: cases.csv, summary.json and table.md; and reading them again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, get_args

import numpy as np

from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.patients import numbered
from voco_cli.document.blocks import Block, Cell, Column, Table, Value
from voco_cli.evaluate.result_files import (
    MOST_UNSEARCHED,
    SUMMARY,
    EvaluationOptions,
    EvaluationResult,
    interval_object,
)
from voco_cli.evaluate.segmentation.compare import OVERALL, SegmentationComparison, compare_tables
from voco_cli.evaluate.segmentation.lesions import (
    SIZE_HEADINGS,
    CaseLesions,
    SizeSummary,
    lesions_csv,
    size_rows,
    summarise_sizes,
)
from voco_cli.evaluate.segmentation.metrics import (
    METRICS,
    State,
    Structure,
    empty_rule,
    metric_title,
)
from voco_cli.evaluate.segmentation.table import MetricSummary, ResultTable, Summary, summarise
from voco_cli.evaluate.tables import NONE, figure, from_json, interval, markdown, some, with_interval, without_nan
from voco_cli.foreign_text import quoted, shortened

LESIONS = "lesions.csv"
COLUMNS = ("case", "patient", "structure", "labels", "kind", "state", "reference_ml", "prediction_ml")
"""Of cases.csv, before those of the metrics."""
SPACE = "each scan's own grid, nothing resampled"
MOST_CASES = 500
"""Rows of the table of cases on a page."""


@dataclass(frozen=True)
class Evaluation(EvaluationResult[ResultTable]):
    """A measured segmentation: a folder, or a split of a run.

    Attributes:
        unpredicted: label maps that nothing was predicted for.
        unlisted: label values outside the classes, and in how many cases they occur; they count as background.
        notes: what was repaired on reading, one sentence each.
        lesions: of every case, where they were measured by size.
        read_sizes: summary by size, of an evaluation whose folder was read.
    """

    kind: ClassVar = "segmentation"
    format: ClassVar = "voco-evaluation/1"
    same: ClassVar = "labels with the same options"
    comparison: ClassVar = SegmentationComparison

    unpredicted: tuple[str, ...] = ()
    unlisted: Mapping[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lesions: tuple[CaseLesions, ...] = ()
    read_sizes: tuple[SizeSummary, ...] = ()

    @staticmethod
    def parse(text: str) -> ResultTable:
        """Return the table that cases.csv holds (see `parse_cases_csv`)."""
        return parse_cases_csv(text)

    @staticmethod
    def details(summary: Mapping[str, Any], options: EvaluationOptions) -> dict[str, Any]:
        """Return how it was measured, and what was noticed (see `EvaluationResult.details`)."""
        rule = empty_rule(str(summary["empty_rule"]["name"]))
        sizes = summary.get("by_size", {})
        edges_mm = tuple(float(edge) for edge in sizes.get("edges_mm", ()))
        tolerance_mm = float(summary["tolerance_mm"])
        return {
            "options": replace(options, tolerance_mm=tolerance_mm, rule=rule, by_size_mm=edges_mm),
            "read_sizes": tuple(from_json(SizeSummary, one) for one in sizes.get("rows", ())),
            "unpredicted": tuple(map(str, summary["unpredicted"])),
            "unlisted": {int(label): int(cases) for label, cases in summary["unlisted_labels"].items()},
            "notes": tuple(map(str, summary["notes"])),
        }

    @cached_property
    def summary(self) -> Summary:
        """Compute means and intervals from the cases; the same draws give the same intervals."""
        return summarise(self.table, self.options.resamples, self.options.seed)

    @cached_property
    def sizes(self) -> tuple[SizeSummary, ...]:
        """Return the summary by size; nothing where lesions were not measured."""
        options = self.options
        if self.read_sizes or not options.by_size_mm:
            return self.read_sizes
        table = self.table
        labelled = {one.name: len(table.cases) - table.count("unlabelled", c) for c, one in enumerate(table.structures)}
        return summarise_sizes(self.lesions, labelled, options.by_size_mm, options.resamples, options.seed)

    def cases_csv(self) -> str:
        """Return the content of cases.csv."""
        return cases_csv(self.table)

    def more_files(self) -> dict[str, str | None]:
        """Return lesions.csv, where lesions were measured (see `EvaluationResult.more_files`)."""
        edges_mm = self.options.by_size_mm
        return {LESIONS: lesions_csv(self.lesions, edges_mm) if edges_mm and self.lesions else None}

    def content(self) -> dict[str, Any]:
        """Return what summary.json holds of the figures."""
        options = self.options
        return {
            "space": SPACE,
            "tolerance_mm": options.tolerance_mm,
            **({} if options.ignore_label is None else {"ignored_label": options.ignore_label}),
            "empty_rule": {"name": options.rule.name, "meaning": options.rule.sentence()},
            "interval": interval_object(options.resamples, options.seed),
            **summary_object(self.summary),
            **self._sizes_object(),
            "failed": self.failed_json(),
            "unpredicted": list(self.unpredicted),
            "unlisted_labels": {str(label): cases for label, cases in self.unlisted.items()},
            "notes": list(self.notes),
        }

    def markdown_tables(self) -> list[str]:
        """Return the table of table.md, and one by size where lesions were measured."""
        tables = [markdown(summary_headings(self.options.tolerance_mm), summary_rows(self.summary))]
        return [*tables, *([markdown(SIZE_HEADINGS, size_rows(self.sizes))] if self.sizes else [])]

    def _sizes_object(self) -> dict[str, Any]:
        """Return the summary by size as JSON holds it; nothing where lesions were not measured."""
        if not self.options.by_size_mm:
            return {}
        rows = [asdict(one) for one in self.sizes]
        return {"by_size": {"edges_mm": list(self.options.by_size_mm), "rows": rows}}

    def sizes_table(self) -> list[Block]:
        """Return the table by size; nothing where lesions were not measured."""
        if not self.sizes:
            return []
        columns = [Column(heading, n > 1) for n, heading in enumerate(SIZE_HEADINGS)]
        return [Table.of("lesions by size", columns, size_rows(self.sizes), names=2, anchor="sizes")]

    def tables(self) -> list[Block]:
        """Return means by structure, and every case under each metric (see `EvaluationResult.tables`)."""
        rows, tolerance_mm = summary_rows(self.summary), self.options.tolerance_mm
        by_class = Table.of(
            "By structure: mean ± standard deviation over cases [95 % interval of the mean]",
            summary_headings(tolerance_mm),
            rows,
            marked=[len(rows) - 1],
            anchor="classes",
        )
        return [by_class, *self.sizes_table(), *(_case_table(self.table, metric, tolerance_mm) for metric in METRICS)]

    def lines(self) -> list[str]:
        """Return how to read the tables (see `EvaluationResult.lines`)."""
        return statements(self)

    def headline(self) -> str:
        """Return the mean Dice with its interval."""
        one = self.summary.overall["dice"]
        if math.isnan(one.mean):
            return f"mean Dice is not defined on {self.cases_words()}"
        return f"mean Dice {with_interval(one.mean, one.low, one.high)} on {self.cases_words()}"

    def option_faults(self, name: str, other_name: str, other: Any) -> list[str]:
        """Return the rule and the tolerance where they differ (see `EvaluationResult.option_faults`)."""
        ours, theirs, faults = self.options, other.options, []
        if theirs.rule != ours.rule:
            faults.append(
                f"{other_name} has the rule {theirs.rule.name!r} for empty classes, and {name} {ours.rule.name!r}"
            )
        if theirs.tolerance_mm != ours.tolerance_mm:
            faults.append(
                f"{other_name} has a tolerance of {theirs.tolerance_mm:g} mm, and {name} {ours.tolerance_mm:g} mm"
            )
        return faults

    def compare(self, names: Sequence[str], others: Sequence[Any], resamples: int, seed: int) -> SegmentationComparison:
        """Compare others with this one (see `EvaluationResult.compare`)."""
        tables, options = [one.table for one in (self, *others)], self.options
        return compare_tables(names, tables, resamples, seed, tolerance_mm=options.tolerance_mm, rule=options.rule.name)


def cases_csv(table: ResultTable) -> str:
    """Return one line for each case and structure; a value that the rule leaves out is empty."""
    rows: list[Sequence[str]] = [(*COLUMNS, *METRICS)]
    for n, case in enumerate(table.cases):
        for c, one in enumerate(table.structures):
            kind = "region" if one.is_region else "class"
            labels = "+".join(map(str, one.labels))
            numbers = [*table.volumes_NC2[n, c], *table.values_NCM[n, c]]
            cells = ["" if math.isnan(number) else f"{number:.10g}" for number in numbers]
            rows.append([case, table.patients[n], one.name, labels, kind, table.states[n][c], *cells])
    return csv_text(rows)


def parse_cases_csv(text: str) -> ResultTable:
    """Return the table that `cases_csv` wrote.

    Raises:
        ValueError: as `csv_records`; other columns, a state or number that is none, a case that lacks a structure, or
            a line twice.
    """
    columns, records = csv_records(text)
    expected = [*COLUMNS, *METRICS]
    if columns != expected:
        raise ValueError(f"columns are {shortened(', '.join(columns))}, and not {', '.join(expected)}")
    structures: dict[Structure, None] = {}
    patients: dict[str, str] = {}
    rows: dict[tuple[str, Structure], dict[str, str]] = {}
    for line, row in records:
        labels = _labels(row["labels"], line)
        structure = Structure(row["structure"], labels, row["kind"] == "region")
        structures[structure] = None
        patients[row["case"]] = row["patient"]
        if (row["case"], structure) in rows:
            raise ValueError(f"case {shortened(row['case'])} has {shortened(structure.name)} twice")
        rows[row["case"], structure] = row
    lacking = next(((case, one.name) for case in patients for one in structures if (case, one) not in rows), None)
    if lacking:
        raise ValueError(f"case {shortened(lacking[0])} lacks {shortened(lacking[1])}")
    ordered = [[rows[case, one] for one in structures] for case in patients]

    def numbers(names: Sequence[str]) -> Any:
        values = [[[_number(row[name]) for name in names] for row in line] for line in ordered]
        return np.array(values, dtype=np.float64).reshape(len(patients), len(structures), len(names))

    return ResultTable(
        cases=tuple(patients),
        patients=numbered(patients.values()),  # an older version wrote their names
        structures=tuple(structures),
        values_NCM=numbers(list(METRICS)),
        states=tuple(tuple(_state(row["state"]) for row in line) for line in ordered),
        volumes_NC2=numbers(("reference_ml", "prediction_ml")),
    )


def summary_object(summary: Summary) -> dict[str, Any]:
    """Return a summary as JSON holds it; NaN becomes null."""
    classes = []
    for one in summary.structures:
        raw = asdict(one)
        classes.append({**raw.pop("structure"), **raw})
    found = {"cases": summary.cases, "patients": summary.patients, "structures": classes}
    return dict(without_nan({**found, "mean_over_classes": {name: asdict(m) for name, m in summary.overall.items()}}))


def summary_rows(summary: Summary, metrics: Iterable[str] = METRICS) -> list[list[str]]:
    """Return cells: name, cases, missed, false positives, then ``mean ± sd [interval]``; the mean over classes last."""
    rows = []
    for one in summary.structures:
        name = f"{one.structure.name} (region)" if one.structure.is_region else one.structure.name
        counts = [str(one.present + one.missed), str(one.missed), str(one.false_positive)]
        rows.append([name, *counts, *(_with_interval(one.metrics[metric], metric) for metric in metrics)])
    overall = (_with_interval(summary.overall[metric], metric) for metric in metrics)
    return [*rows, [OVERALL, "", "", "", *overall]]


def summary_headings(tolerance_mm: float, metrics: Iterable[str] = METRICS) -> list[str]:
    """Return the headings of `summary_rows`."""
    return [
        "structure",
        "cases",
        "missed",
        "false positive",
        *(metric_title(metric, tolerance_mm) for metric in metrics),
    ]


def _with_interval(one: MetricSummary, metric: str) -> str:
    if not one.n:
        return NONE
    digits = METRICS[metric].digits
    deviation = "" if math.isnan(one.sd) else f" ± {figure(one.sd, digits)}"
    return f"{figure(one.mean, digits)}{deviation} {interval(one.low, one.high, digits)}".rstrip()


def _labels(text: str, line: int) -> tuple[int, ...]:
    try:
        return tuple(int(label) for label in text.split("+"))
    except ValueError as error:
        raise ValueError(f"line {line} has the labels {quoted(text)}") from error


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no number") from error


def _state(word: str) -> State:
    word = "false_positive" if word == "phantom" else word  # as an older version wrote it
    for state in get_args(State):
        if word == state:
            return word  # type: ignore[return-value]
    raise ValueError(f"{quoted(word)} is no state of a structure")


def statements(evaluation: Evaluation) -> list[str]:
    """Return what a table must say of itself, one line each."""
    summary, options = evaluation.summary, evaluation.options
    missed = sum(one.missed for one in summary.structures)
    false_positive = sum(one.false_positive for one in summary.structures)
    lines = [
        f"{summary.cases} cases of {summary.patients} patients, in {SPACE}.",
        f"Mean ± standard deviation over cases [bootstrap 95 % interval of the mean, {options.resamples} resamples "
        "by patient]; the last row is the mean of the classes' means.",
        f"Missed structures: {missed}, false positives: {false_positive}. "
        f"Rule for empty ones ({options.rule.name}): {options.rule.sentence()}.",
    ]
    if options.ignore_label is not None:
        lines.append(
            f"Voxels of label {options.ignore_label} (ignore) are left out of every measure, in label map and "
            "prediction alike."
        )
    if options.by_size_mm:
        lines.append(
            "A lesion is a connected part of a structure, its radius that of the ball of its volume; it is found where "
            "the prediction has a voxel of it. Its Dice is with all parts of the prediction that touch it. A part that "
            "touches no lesion is a false positive, under its own radius. Intervals: resampled by patient."
        )
    if evaluation.failed:
        lines.append(f"Not measured: {', '.join(case for case, _ in evaluation.failed)}.")
    if evaluation.unpredicted:
        lines.append(f"Labels without a prediction, not counted: {some(evaluation.unpredicted)}.")
    if evaluation.unlisted:
        values = (f"{label} ({cases} cases)" for label, cases in evaluation.unlisted.items())
        lines.append(f"Label values outside the classes, taken as background: {', '.join(values)}.")
    if evaluation.notes:
        lines.append(f"Put right on reading, all in {SUMMARY}: {some(evaluation.notes)}.")
    return lines


def _case_table(table: ResultTable, metric: str, tolerance_mm: float) -> Table:
    """Return every case under one metric: its mean and each structure; Dice open, the others folded."""
    means, values_NC = table.case_means(metric), table.of_metric(metric)
    title = metric_title(metric, tolerance_mm)
    worst_first = sorted(range(len(means)), key=lambda n: _badness(means[n], metric))
    shown = sorted(worst_first[:MOST_CASES])
    counted = {"missed": "missed", "false_positive": "false positive"} if metric == "dice" else {}
    columns = [
        *map(Column, ("case", "patient")),
        *(Column(name, True) for name in ("mean over classes", *(one.name for one in table.structures))),
        *(Column(words, True) for words in counted.values()),
    ]
    rows: list[list[Value]] = []
    for n in shown:
        counts = [int((np.array(table.states[n]) == word).sum()) for word in counted]
        values = map(float, (means[n], *values_NC[n]))
        figures = (None if math.isnan(one) else Cell(figure(one, METRICS[metric].digits), one) for one in values)
        rows.append([table.cases[n], table.patients[n], *figures, *counts])
    part = "" if len(shown) == len(means) else f", the {len(shown)} worst of {len(means)}; cases.csv has all"
    caption = f"{title} of every case"
    return Table.of(
        f"{caption}{part}",
        columns,
        rows,
        names=2,
        anchor=f"cases-{metric}",
        folded="" if metric == "dice" else caption,
        searched=len(rows) > MOST_UNSEARCHED,
    )


def _badness(mean: float, metric: str) -> float:
    if math.isnan(mean):
        return math.inf
    return -mean if METRICS[metric].lower_is_better else mean
