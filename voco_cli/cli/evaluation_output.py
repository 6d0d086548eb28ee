"""How an evaluation is shown on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voco_cli.cli.output import out, warn
from voco_cli.errors import DataError

if TYPE_CHECKING:
    from voco_cli.evaluation.classification_folder import ClassificationEvaluation
    from voco_cli.evaluation.folder import Evaluation
    from voco_cli.evaluation.provenance import Provenance
    from voco_cli.finetuning.measure import Measured

SHOWN_FAULTS = 20
WIDE_ENOUGH = 100
FEWER_METRICS = ("dice", "nsd", "hd95_mm")
"""What a narrow terminal shows; table.md has all."""


def print_measured(measured: Measured) -> None:
    """The figures of a run, of whichever kind."""
    from voco_cli.evaluation.folder import Evaluation

    if isinstance(measured.evaluation, Evaluation):
        print_evaluation(measured.evaluation, measured.provenance)
    else:
        print_classification(measured.evaluation)


def print_evaluation(evaluation: Evaluation, provenance: Provenance | None = None) -> None:
    """Means with deviation, and the interval on the next line; what does not fit the terminal is in table.md."""
    from rich.table import Table
    from rich.text import Text

    from voco_cli.evaluation.measures import METRICS
    from voco_cli.evaluation.result_folder import statements
    from voco_cli.evaluation.tables import summary_headings, summary_rows

    for shown in (METRICS, FEWER_METRICS):
        headings = summary_headings(evaluation.options.tolerance_mm, shown)
        rows = [[cell.replace(" [", "\n[") for cell in row] for row in summary_rows(evaluation.summary, shown)]
        widths = _least_widths([headings, *rows])
        if sum(widths) + len(widths) - 1 <= out.width:
            break
    table = Table(
        title="predictions against labels", title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
    for line in statements(evaluation):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if provenance is not None:
        print_provenance(provenance)


def _least_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters that each column needs so that no word of a name and no line of figures is broken."""
    names, *figures = zip(*rows, strict=True)
    longest = [max(len(word) for name in names for word in name.split())]
    return longest + [max(len(line) for cell in column for line in cell.split("\n")) for column in figures]


def print_classification(evaluation: ClassificationEvaluation) -> None:
    """Figures with their intervals, then each category against all others; the rest of these is in table.md."""
    from voco_cli.evaluation.classification import CATEGORY_METRICS
    from voco_cli.evaluation.classification_folder import (
        OVERALL_HEADINGS,
        category_headings,
        category_rows,
        overall_rows,
        statements,
    )

    summary = evaluation.summary
    shown = CATEGORY_METRICS if out.width >= WIDE_ENOUGH else ("sensitivity", "specificity", "auc")
    _print_table(OVERALL_HEADINGS, overall_rows(summary), " ")
    _print_table(category_headings(shown), category_rows(summary, shown), "\n")
    for line in statements(replace(evaluation, provenance=None)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if evaluation.provenance is not None:
        print_provenance(evaluation.provenance)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], before_interval: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", f"{before_interval}[")) for cell in row))
    out.print(table)


def print_provenance(provenance: Provenance) -> None:
    """Whose figures these are; what spoils them in yellow."""
    style = None if spotless(provenance.contamination) else "yellow"
    first, *contamination = provenance.lines()
    out.print(first, markup=False, highlight=False, soft_wrap=True)
    for line in contamination:
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def spotless(contamination: Mapping[str, Any]) -> bool:
    """Nothing at all was found, not even the name of a patient in another data set."""
    return not contamination["found"] and not contamination["unknown_weights"]


def report_failures(evaluation: Evaluation | ClassificationEvaluation) -> None:
    """End with an error where cases could not be measured.

    Raises:
        DataError: their number; the reasons are printed.
    """
    if not evaluation.failed:
        return
    for case, reason in evaluation.failed[:SHOWN_FAULTS]:
        warn(f"{case}: {reason}")
    if len(evaluation.failed) > SHOWN_FAULTS:
        warn(f"and {len(evaluation.failed) - SHOWN_FAULTS} more, all in summary.json")
    total = len(evaluation.failed) + evaluation.summary.cases
    raise DataError(f"{len(evaluation.failed)} of {total} cases could not be measured.", "The reasons are above.")
