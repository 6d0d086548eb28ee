"""The evaluation of a classification: figures, categories, confusion, every case."""

from __future__ import annotations

from dataclasses import replace

from voco_cli.document.blocks import Block, Bullets, Cell, Column, Row, Sentence, Table, cell, text_table
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.classification.results import (
    OVERALL_HEADINGS,
    category_headings,
    category_rows,
    estimate_text,
    overall_rows,
    statements,
)
from voco_cli.report.measured import Classified, seen_sentences


def classification_blocks(prefix: str, measured: Classified) -> list[Block]:
    """Tables and statements of an evaluation."""
    evaluation = measured.evaluation
    summary, names = evaluation.summary, [one.name for one in evaluation.summary.categories]
    blocks: list[Block] = [
        text_table(f"{prefix}-overall", "Over all categories", OVERALL_HEADINGS, overall_rows(summary)),
        text_table(
            f"{prefix}-categories",
            "Each category against all others, with 95 % intervals",
            category_headings(),
            category_rows(summary),
        ),
        _confusion(f"{prefix}-confusion", names, summary.confusion_KK.tolist()),
        *(Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in evaluation.failed),
        _case_table(f"{prefix}-cases", evaluation.scored),
    ]
    whose = evaluation.provenance.lines() if evaluation.provenance is not None else []
    seen = seen_sentences(measured.stored.leakage)
    return [*blocks, *seen, Bullets((*statements(replace(evaluation, provenance=None)), *whose))]


def overall_words(measured: Classified) -> str:
    """The figure of an evaluation in a few words."""
    summary = measured.evaluation.summary
    cases = f"{summary.cases} {measured.split} case{'s' if summary.cases != 1 else ''}"
    return f"AUC {estimate_text(summary.overall['auc'])} on {cases}"


def _confusion(anchor: str, names: list[str], confusion_KK: list[list[int]]) -> Table:
    columns = (Column("true category"), *(Column(f"taken for {name}", True) for name in names))
    rows = tuple(Row((Cell(name), *map(cell, row))) for name, row in zip(names, confusion_KK, strict=True))
    return Table(anchor, "What each category was taken for, cases", columns, rows)


def _case_table(anchor: str, scored: ScoredCases) -> Table:
    """Every case; those that were told wrongly stand out."""
    predicted = scored.predicted
    columns = (
        *map(Column, ("case", "patient", "true category", "taken for", "right")),
        *(Column(f"p({name})", True) for name in scored.categories),
    )
    rows = []
    for n, case in enumerate(scored.cases):
        truth, taken = scored.truth_N[n], predicted[n]
        cells = [case, scored.patients[n], scored.categories[truth], scored.categories[taken]]
        right = "yes" if truth == taken else "no"
        probabilities = (Cell(f"{p:.3f}", float(p)) for p in scored.probabilities_NK[n])
        rows.append(Row((*map(Cell, (*cells, right)), *probabilities), marked=truth != taken))
    caption = "Every case; a marked one was taken for another category"
    return Table(anchor, caption, columns, tuple(rows), searched=len(rows) > 20, names=2)
