"""The evaluation of a classification: figures, categories, confusion, every case."""

from __future__ import annotations

from dataclasses import replace

from voco_cli.document.blocks import Block, Bullets, Column, Sentence, Table, Value
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.classification.results import (
    OVERALL_HEADINGS,
    category_headings,
    category_rows,
    estimate_words,
    overall_rows,
    statements,
)
from voco_cli.report.measured import Classified, seen_sentences


def classification_blocks(measured: Classified) -> list[Block]:
    """Return tables and statements of an evaluation."""
    evaluation = measured.evaluation
    summary, names = evaluation.summary, [one.name for one in evaluation.summary.categories]
    blocks: list[Block] = [
        Table.of("Over all categories", OVERALL_HEADINGS, overall_rows(summary), anchor="overall"),
        Table.of(
            "Each category against all others, with 95 % intervals",
            category_headings(),
            category_rows(summary),
            anchor="categories",
        ),
        _confusion(names, summary.confusion_KK.tolist()),
        *(Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in evaluation.failed),
        _case_table(evaluation.scored),
    ]
    whose = evaluation.provenance.lines() if evaluation.provenance is not None else []
    seen = seen_sentences(measured.stored.leakage)
    return [*blocks, *seen, Bullets((*statements(replace(evaluation, provenance=None)), *whose))]


def overall_words(measured: Classified) -> str:
    """The figure of an evaluation in a few words."""
    summary = measured.evaluation.summary
    cases = f"{summary.cases} {measured.split} case{'s' if summary.cases != 1 else ''}"
    return f"AUC {estimate_words(summary.overall['auc'])} on {cases}"


def _confusion(names: list[str], confusion_KK: list[list[int]]) -> Table:
    columns = [Column("true category"), *(Column(f"taken for {name}", True) for name in names)]
    rows: list[list[Value]] = [[name, *row] for name, row in zip(names, confusion_KK, strict=True)]
    return Table.of("What each category was taken for, cases", columns, rows, anchor="confusion")


def _case_table(scored: ScoredCases) -> Table:
    """Return a table of every case; those that were taken for another category stand out."""
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
    return Table.of(caption, columns, rows, names=2, marked=wrong, anchor="cases", searched=len(rows) > 20)
