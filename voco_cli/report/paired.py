"""Comparisons: of fine-tuning runs that a report shows side by side, and as `voco compare -o` wrote them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from voco_cli.evaluation import classification_comparison, comparison
from voco_cli.evaluation.classification_comparison import ClassificationComparison, compare_classifications
from voco_cli.evaluation.classification_tables import (
    CHANGE_HEADINGS,
    comparison_statements,
    figure_headings,
    figure_rows,
)
from voco_cli.evaluation.classification_tables import change_rows as category_rows
from voco_cli.evaluation.comparison import OVERALL, Comparison, compare_tables
from voco_cli.evaluation.measures import METRICS
from voco_cli.evaluation.statistics import RESAMPLES
from voco_cli.evaluation.tables import change_rows, difference_headings, difference_rows, metric_title, number, p_value
from voco_cli.evaluation.unlike import (
    missed_sentences,
    settings_sentences,
    trained_as,
    training_warnings,
    unlike_settings,
)
from voco_cli.figures.classification_comparison import draw_classification_comparison
from voco_cli.figures.comparison import draw_comparison
from voco_cli.report.blocks import Block, Bullets, Picture, Sentence
from voco_cli.report.measured import Classified, Evaluations, Measured, Segmented, seen_sentences
from voco_cli.report.pictures import embed
from voco_cli.report.rows import text_table
from voco_cli.report.sections import Part, Section
from voco_cli.report.settings_part import value_words

MOST_CHANGES = 50
WIDEST_PX = 1400
ANCHOR = "compared"


def paired_section(runs: Sequence[tuple[str, Evaluations]]) -> Section:
    """Fine-tuning runs that were measured on the same cases, compared with the first as `voco compare` does.

    Args:
        runs: name and evaluations of each, two at least.
    """
    first = next(((name, of.measured[0]) for name, of in runs if of.measured), None)
    if first is None:
        return _section([Sentence("None of these runs was evaluated, so there is nothing to compare.", "warning")])
    name, baseline = first
    pairs, words = [(name, baseline)], []
    for other, of in runs:
        if other == name:
            continue
        fits = next((one for one in of.measured if one.split == baseline.split), None)
        if fits is None:
            words.append(f"{other} was not evaluated on the {baseline.split} split, on which {name} was.")
        elif faults := _faults(name, baseline, other, fits):
            words.append(f"{other} cannot be paired with {name}: {'; '.join(faults)}.")
        else:
            pairs.append((other, fits))
    blocks: list[Block] = [Sentence(line, "warning") for line in words]
    if len(pairs) < 2:
        return _section([*blocks, Sentence("So nothing is compared.", "warning")])
    return _section([*_compared(pairs), *blocks])


def _section(blocks: Sequence[Block]) -> Section:
    part = Part(f"{ANCHOR}-differences", "Differences, case by case", tuple(blocks))
    return Section(ANCHOR, "Fine-tuning runs compared", "side by side", (part,))


def _faults(first_name: str, first: Measured, name: str, other: Measured) -> list[str]:
    """Why two evaluations cannot be paired."""
    names = (first_name, name)
    if isinstance(first, Segmented) and isinstance(other, Segmented):
        faults = []
        if first.stored.rule != other.stored.rule:
            faults.append(f"its rule for empty classes is {other.stored.rule}, and not {first.stored.rule}")
        if first.stored.tolerance_mm != other.stored.tolerance_mm:
            faults.append(
                f"its tolerance is {other.stored.tolerance_mm:g} mm, and not {first.stored.tolerance_mm:g} mm"
            )
        return faults + comparison.pairing_faults(names, [first.stored.table, other.stored.table])
    if isinstance(first, Classified) and isinstance(other, Classified):
        return classification_comparison.pairing_faults(names, [first.stored.table, other.stored.table])
    return ["one is a segmentation and the other a classification"]


def _compared(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    names = [name for name, _ in pairs]
    segmented = [one for _, one in pairs if isinstance(one, Segmented)]
    seen = [sentence for name, one in pairs for sentence in seen_sentences(one.stored.contamination, name)]
    if segmented:
        found = compare_tables(names, [one.stored.table for one in segmented])
        first = segmented[0].stored
        drawn = draw_comparison(found, "dice", first.tolerance_mm)
        picture = comparison_picture(drawn, found.runs)
        missed = missed_sentences(found, [one.stored.table for one in segmented], first.tolerance_mm)
        blocks = comparison_blocks(ANCHOR, found, first.tolerance_mm, first.rule, RESAMPLES)
        return [picture, *blocks, *(Sentence(line, "warning") for line in missed), *_training(pairs), *seen]
    classified = [one.stored.table for _, one in pairs if isinstance(one, Classified)]
    told = compare_classifications(names, classified)
    picture = comparison_picture(draw_classification_comparison(told), told.runs)
    return [picture, *classification_blocks(ANCHOR, told, RESAMPLES), *_training(pairs), *seen]


def _training(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    """Settings that differ, and warnings where steps or training cases do."""
    names, trained = [name for name, _ in pairs], [trained_as(one.stored.folder) for _, one in pairs]
    warnings = [Sentence(line, "warning") for line in training_warnings(names, trained)]
    unlike = unlike_settings(trained)
    if not unlike:
        return [*warnings, *map(Sentence, settings_sentences(names, trained))]
    return [*warnings, unlike_table(ANCHOR, names, unlike)]


def unlike_table(prefix: str, names: Sequence[str], unlike: Mapping[str, Sequence[Any]]) -> Block:
    """Settings that are not the same in all runs, one column a run."""
    rows = [[key, *map(value_words, values)] for key, values in unlike.items()]
    caption = f"{len(rows)} settings that differ between the runs"
    return text_table(f"{prefix}-settings", caption, ["setting", *names], rows, names=len(names) + 1)


def comparison_blocks(
    prefix: str, found: Comparison, tolerance_mm: float, rule: str, resamples: int, metrics: Sequence[str] = METRICS
) -> list[Block]:
    """Differences under each metric, the cases that changed most, and how to read them."""
    first = found.runs[0]
    blocks: list[Block] = []
    for metric in metrics:
        title = metric_title(metric, tolerance_mm)
        differences = found.of_metric(metric)
        if not differences:
            continue
        blocks.append(
            text_table(
                f"{prefix}-{metric}",
                f"{title}: difference from {first}",
                difference_headings(first),
                difference_rows(differences),
                names=2,
                folded="" if metric == "dice" else f"{title}: difference from {first}",
                marked=[n for n, one in enumerate(differences) if one.structure == OVERALL],
            )
        )
    changes = change_rows(found.changes.get("dice", ())[:MOST_CHANGES])
    if changes:
        headings = ["run", "case", "structure", "from", "to", "change"]
        caption = "Cases whose Dice changed most"
        blocks.append(text_table(f"{prefix}-changes", caption, headings, changes, names=3, folded=caption))
    return [*blocks, Bullets(tuple(_statements(found, rule, resamples)))]


def classification_blocks(prefix: str, found: ClassificationComparison, resamples: int) -> list[Block]:
    """Differences of every figure, the cases that changed category, and how to read them."""
    first = found.runs[0]
    headings, rows = figure_headings(first), figure_rows(found.differences)
    blocks: list[Block] = [text_table(f"{prefix}-figures", f"Difference from {first}", headings, rows, names=2)]
    if found.changes:
        caption = f"{len(found.changes)} changes of category"
        changed = category_rows(found.changes[:MOST_CHANGES])
        titled = [*CHANGE_HEADINGS[:-1], "came to"]
        blocks.append(text_table(f"{prefix}-changes", caption, titled, changed, names=5, folded=caption))
    return [*blocks, Bullets(tuple(comparison_statements(found, resamples)))]


def comparison_picture(content: bytes, runs: Sequence[str]) -> Block:
    """The picture of a comparison, whose numbers the tables below hold."""
    alt = f"Differences of {', '.join(runs[1:])} from {runs[0]} with intervals, and every case as a line."
    return Picture(embed(content, "the picture of the comparison", WIDEST_PX, drawing=True), alt)


def overall_difference(found: Comparison) -> str:
    """The mean Dice of each run against the first, in a few words."""
    overall = (one for one in found.of_metric("dice") if one.structure == OVERALL)
    return "; ".join(
        f"{one.run}: {_difference(one.difference, one.low, one.high)} mean Dice, p {p_value(one.p)}" for one in overall
    )


def auc_difference(found: ClassificationComparison) -> str:
    """The AUC of each run against the first, in a few words."""
    overall = (one for one in found.differences if one.metric == "auc" and one.category is None)
    return "; ".join(
        f"{one.run}: {_difference(one.difference, one.low, one.high)} AUC, p {p_value(one.p)}" for one in overall
    )


def _difference(value: float, low: float, high: float) -> str:
    interval = "" if math.isnan(low) else f" [{number(low, 'dice', sign=True)}, {number(high, 'dice', sign=True)}]"
    return f"{number(value, 'dice', sign=True)}{interval}"


def _statements(found: Comparison, rule: str, resamples: int) -> list[str]:
    first = found.runs[0]
    return [
        f"{found.cases} cases of {found.patients} patients, paired. A difference is run - {first}, with its bootstrap "
        f"95 % interval: {resamples} resamples of the patients.",
        "p: Wilcoxon signed-rank test over the patients' mean differences; p (Holm) is corrected over all classes and "
        f"runs. Effect: matched-pairs rank-biserial correlation, +1 where nobody is below {first} and somebody above.",
        f"Rule for classes that are not there: {rule}.",
    ]
