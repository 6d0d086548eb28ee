"""The evaluations of a fine-tuning run, rebuilt from what their folders hold, as blocks of a report.

A segmentation and a classification are shown in one way: `Measured` says what a report asks of either.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.document.blocks import Block, Bullets, Cell, Column, Sentence, Table, Value
from voco_cli.errors import DataError, VocoError
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.classification.results import (
    OVERALL_HEADINGS,
    ClassificationEvaluation,
    category_headings,
    category_rows,
    estimate_text,
    overall_rows,
)
from voco_cli.evaluate.classification.results import statements as classification_statements
from voco_cli.evaluate.classification.table import summarise_classification
from voco_cli.evaluate.comparison import pairing_faults
from voco_cli.evaluate.read_results import RUN_SPLITS, Stored, read_results
from voco_cli.evaluate.result_files import SUMMARY, Provenance, StoredEvaluation, damaged
from voco_cli.evaluate.segmentation.evaluate import Evaluation, EvaluationOptions
from voco_cli.evaluate.segmentation.metrics import METRICS, empty_rule, metric_title
from voco_cli.evaluate.segmentation.results import statements, summary_headings, summary_rows
from voco_cli.evaluate.segmentation.table import ResultTable, summarise
from voco_cli.evaluate.statistics import nan_mean
from voco_cli.evaluate.tables import figure, with_interval
from voco_cli.report.run_record import read_object

MOST_CASES = 500
MOST_UNSEARCHED = 20
OTHER_KIND = "one is a segmentation and the other a classification"


@dataclass(frozen=True)
class Measured(ABC):
    """A split of a run that was measured; its figures are computed again from its cases, with the same draws.

    Attributes:
        split: of the run.
        stored: what the folder holds.
        provenance: whose predictions they are; what it knows of data leakage stands apart.
    """

    split: str
    stored: Stored
    provenance: Provenance | None

    @abstractmethod
    def blocks(self) -> list[Block]:
        """Return tables of everything that was measured, and how to read them."""

    @abstractmethod
    def headline(self) -> str:
        """Return the one figure in a few words."""

    @abstractmethod
    def pairing_faults(self, names: tuple[str, str], other: Measured) -> list[str]:
        """Return why another evaluation cannot be paired with this one."""

    def cases_words(self, cases: int) -> str:
        """Return how many cases of which split."""
        return f"{cases} {self.split} case{'s' if cases != 1 else ''}"

    def with_notes(self, tables: list[Block], before: Sequence[str], after: Sequence[str] = ()) -> list[Block]:
        """Return the tables, what is known of data leakage, and lines on how to read them and whose they are."""
        whose = self.provenance.lines() if self.provenance is not None else []
        return [*tables, *leakage_sentences(self.stored.leakage), Bullets((*before, *whose, *after))]


@dataclass(frozen=True)
class MeasuredSegmentation(Measured):
    """A segmentation that was measured."""

    stored: StoredEvaluation[ResultTable]
    evaluation: Evaluation

    def blocks(self) -> list[Block]:
        """Return means by structure, and every case under each metric."""
        evaluation = self.evaluation
        tolerance = evaluation.options.tolerance_mm
        rows = summary_rows(evaluation.summary)
        by_class = Table.of(
            "By structure: mean ± standard deviation over cases [95 % interval of the mean]",
            summary_headings(tolerance),
            rows,
            marked=[len(rows) - 1],
            anchor="classes",
        )
        cases = [_case_table(evaluation.table, metric, tolerance) for metric in METRICS]
        tables: list[Block] = [by_class, *_failed_sentences(evaluation.failed), *cases]
        return self.with_notes(tables, statements(evaluation), evaluation.notes)

    def headline(self) -> str:
        """Return the mean Dice with its interval."""
        one = self.evaluation.summary.overall["dice"]
        of = self.cases_words(self.evaluation.summary.cases)
        if math.isnan(one.mean):
            return f"mean Dice is not defined on {of}"
        return f"mean Dice {with_interval(one.mean, one.low, one.high)} on {of}"

    def pairing_faults(self, names: tuple[str, str], other: Measured) -> list[str]:
        """Return what differs: rule, tolerance, cases or structures."""
        if not isinstance(other, MeasuredSegmentation):
            return [OTHER_KIND]
        first, second, faults = self.stored, other.stored, []
        if first.rule != second.rule:
            faults.append(f"its rule for empty classes is {second.rule}, and not {first.rule}")
        if first.tolerance_mm != second.tolerance_mm:
            faults.append(f"its tolerance is {second.tolerance_mm:g} mm, and not {first.tolerance_mm:g} mm")
        return faults + pairing_faults(names, [first.table, second.table])


@dataclass(frozen=True)
class MeasuredClassification(Measured):
    """A classification that was measured."""

    stored: StoredEvaluation[ScoredCases]
    evaluation: ClassificationEvaluation

    def blocks(self) -> list[Block]:
        """Return the figures over all categories and of each, what was taken for what, and every case."""
        evaluation, summary = self.evaluation, self.evaluation.summary
        confusion: list[list[Value]] = [
            [one.name, *row] for one, row in zip(summary.categories, summary.confusion_KK.tolist(), strict=True)
        ]
        taken = [Column("true category"), *(Column(f"taken for {one.name}", True) for one in summary.categories)]
        tables: list[Block] = [
            Table.of("Over all categories", OVERALL_HEADINGS, overall_rows(summary), anchor="overall"),
            Table.of(
                "Each category against all others, with 95 % intervals",
                category_headings(),
                category_rows(summary),
                anchor="categories",
            ),
            Table.of("What each category was taken for, cases", taken, confusion, anchor="confusion"),
            *_failed_sentences(evaluation.failed),
            _scored_table(evaluation.scored),
        ]
        return self.with_notes(tables, classification_statements(replace(evaluation, provenance=None)))

    def headline(self) -> str:
        """Return the AUC with its interval."""
        summary = self.evaluation.summary
        return f"AUC {estimate_text(summary.overall['auc'])} on {self.cases_words(summary.cases)}"

    def pairing_faults(self, names: tuple[str, str], other: Measured) -> list[str]:
        """Return what differs: cases or categories."""
        if not isinstance(other, MeasuredClassification):
            return [OTHER_KIND]
        return pairing_faults(names, [self.stored.table, other.stored.table])


@dataclass(frozen=True)
class Evaluations:
    """All that was measured of a run.

    Attributes:
        measured: test before validation.
        faults: what is wrong with those that cannot be read, one sentence each.
    """

    measured: tuple[Measured, ...] = ()
    faults: tuple[str, ...] = ()


def read_evaluations(run: Path) -> Evaluations:
    """Read the evaluations that lie in a run folder."""
    found: list[Measured] = []
    faults = []
    for split in RUN_SPLITS:
        folder = run / "evaluation" / split
        if not (folder / SUMMARY).is_file():
            continue
        try:
            found.append(_read(split, folder))
        except VocoError as error:
            faults.append(error.message)
    return Evaluations(tuple(found), tuple(faults))


def leakage_sentences(leakage: Any, whose: str = "") -> list[Sentence]:
    """Return what an evaluation recorded of cases that were in the training; a warning where there are some.

    Args:
        leakage: as summary.json or comparison.json holds it, whatever that is.
        whose: name of the run, where there are several.
    """
    held = leakage if isinstance(leakage, Mapping) else {}
    spotted = bool(held.get("found") or held.get("unknown_weights"))
    before, lines = f"{whose}: " if whose else "", held.get("sentences")
    shown = lines if isinstance(lines, list) else []
    return [Sentence(f"{before}{line}", "warning" if spotted else "plain") for line in shown]


def case_means(table: ResultTable, metric: str = "dice") -> list[float]:
    """Return the mean of each case over the classes; NaN where no class has a value."""
    return [float(value) for value in nan_mean(table.of_metric(metric)[:, table.averaged], axis=1)]


def _read(split: str, folder: Path) -> Measured:
    stored, held = read_results(folder), read_object(folder / SUMMARY)
    try:
        drawn = held["interval"]
        resamples, seed = int(drawn["resamples"]), int(drawn["seed"])
        failed = tuple((str(one["case"]), str(one["reason"])) for one in held["failed"])
        # What is known of data leakage is shown apart, by leakage_sentences.
        run = held.get("run")
        provenance = None if run is None else Provenance(str(run), str(held["split"]), str(held["chosen"]), {})
        if isinstance(stored.table, ScoredCases):
            summary = summarise_classification(stored.table, resamples, seed)
            scored = ClassificationEvaluation(stored.table, summary, failed, provenance)
            return MeasuredClassification(split, stored, provenance, scored)
        if not stored.table.cases:
            raise DataError(f"{stored.folder} holds no case.")
        evaluation = Evaluation(
            table=stored.table,
            summary=summarise(stored.table, resamples, seed),
            options=EvaluationOptions(stored.tolerance_mm, empty_rule(stored.rule), resamples, seed),
            failed=failed,
            unpredicted=tuple(map(str, held["unpredicted"])),
            unlisted={int(label): int(cases) for label, cases in held["unlisted_labels"].items()},
            notes=tuple(map(str, held["notes"])),
        )
        return MeasuredSegmentation(split, stored, provenance, evaluation)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, error) from error


def _failed_sentences(failed: Sequence[tuple[str, str]]) -> list[Sentence]:
    return [Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in failed]


def _case_table(table: ResultTable, metric: str, tolerance_mm: float) -> Table:
    """Return every case under one metric: its mean and each structure; Dice open, the others folded."""
    means, values_NC = case_means(table, metric), table.of_metric(metric)
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


def _scored_table(scored: ScoredCases) -> Table:
    """Return every case of a classification; those that were taken for another category stand out."""
    predicted = scored.predicted
    columns = [
        *map(Column, ("case", "patient", "true category", "taken for", "right")),
        *(Column(f"p({name})", True, ".3f") for name in scored.categories),
    ]
    rows: list[list[Value]] = []
    for n, case in enumerate(scored.cases):
        truth, taken = scored.truth_N[n], predicted[n]
        words = [case, scored.patients[n], scored.categories[truth], scored.categories[taken]]
        rows.append([*words, "yes" if truth == taken else "no", *map(float, scored.probabilities_NK[n])])
    wrong = [n for n in range(len(rows)) if scored.truth_N[n] != predicted[n]]
    caption = "Every case; a marked one was taken for another category"
    searched = len(rows) > MOST_UNSEARCHED
    return Table.of(caption, columns, rows, names=2, marked=wrong, anchor="cases", searched=searched)
