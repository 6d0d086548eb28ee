"""Runs compared case by case: fine-tuning runs of one page, or a folder that `voco compare -o` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.document.blocks import Block, Bullets, Facts, PagePart, PageSection, Picture, Sentence, Table
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.classification.compare import (
    CHANGE_HEADINGS,
    Agreement,
    CategoryChange,
    ClassificationComparison,
    category_change_rows,
    category_difference_from_object,
    compare_classifications,
    comparison_statements,
    figure_headings,
    figure_rows,
)
from voco_cli.evaluate.segmentation.compare import (
    CaseChange,
    SegmentationComparison,
    change_rows,
    compare_tables,
    difference_from_object,
    difference_headings,
    difference_rows,
)
from voco_cli.evaluate.segmentation.metrics import METRICS, metric_title
from voco_cli.evaluate.setting_differences import (
    missed_sentences,
    settings_sentences,
    trained_as,
    training_warnings,
    unlike_settings,
)
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.evaluate.tables import p_value, with_interval
from voco_cli.figures.comparison import draw_classification_comparison, draw_comparison
from voco_cli.report.evaluations import (
    Evaluations,
    Measured,
    MeasuredClassification,
    MeasuredSegmentation,
    leakage_sentences,
)
from voco_cli.report.run_record import COMPARISON, from_json, read_object
from voco_cli.report.shared_parts import embed, value_words

SEGMENTATIONS, CLASSIFICATIONS = "voco-comparison/1", "voco-classification-comparison/1"
MOST_CHANGES = 50
WIDEST_PX = 1400


def paired_section(runs: Sequence[tuple[str, Evaluations]]) -> PageSection:
    """Return fine-tuning runs that were measured on the same cases, compared with the first as `voco compare` does.

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
        elif faults := baseline.pairing_faults((name, other), fits):
            words.append(f"{other} cannot be paired with {name}: {'; '.join(faults)}.")
        else:
            pairs.append((other, fits))
    blocks: list[Block] = [Sentence(line, "warning") for line in words]
    if len(pairs) < 2:
        return _section([*blocks, Sentence("So nothing is compared.", "warning")])
    return _section([*_compared(pairs), *blocks])


def _section(blocks: Sequence[Block]) -> PageSection:
    part = PagePart("differences", "Differences, case by case", blocks)
    return PageSection("compared", "Fine-tuning runs compared", "side by side", [part])


def _compared(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    names = [name for name, _ in pairs]
    leakage = [sentence for name, one in pairs for sentence in leakage_sentences(one.stored.leakage, name)]
    first = pairs[0][1]
    if isinstance(first, MeasuredSegmentation):
        tolerance, rule = first.stored.tolerance_mm, first.stored.rule
        tables = [one.stored.table for _, one in pairs if isinstance(one, MeasuredSegmentation)]
        found = compare_tables(names, tables)
        drawn, blocks = draw_comparison(found, "dice", tolerance), segmentation_blocks(found, tolerance, rule)
        blocks += [Sentence(line, "warning") for line in missed_sentences(found, tables, tolerance)]
    else:
        scored = [one.stored.table for _, one in pairs if isinstance(one, MeasuredClassification)]
        told = compare_classifications(names, scored)
        drawn, blocks = draw_classification_comparison(told), classification_blocks(told)
    return [comparison_picture(drawn, names), *blocks, *_training(pairs), *leakage]


def _training(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    """Return settings that differ, and warnings where steps or training cases do."""
    names, trained = [name for name, _ in pairs], [trained_as(one.stored.folder) for _, one in pairs]
    warnings = [Sentence(line, "warning") for line in training_warnings(names, trained)]
    unlike = unlike_settings(trained)
    if not unlike:
        return [*warnings, *map(Sentence, settings_sentences(names, trained))]
    return [*warnings, unlike_table(names, unlike)]


def unlike_table(names: Sequence[str], unlike: Mapping[str, Sequence[Any]]) -> Block:
    """Return a table of settings that are not the same in all runs, one column a run."""
    rows = [[key, *map(value_words, values)] for key, values in unlike.items()]
    caption = f"{len(rows)} settings that differ between the runs"
    return Table.of(caption, ["setting", *names], rows, names=len(names) + 1, anchor="settings")


def segmentation_blocks(
    found: SegmentationComparison, tolerance_mm: float, rule: str, resamples: int = RESAMPLES
) -> list[Block]:
    """Return the differences under each metric, the cases that changed most, and how to read them."""
    first = found.runs[0]
    blocks: list[Block] = []
    for metric in METRICS:
        title = metric_title(metric, tolerance_mm)
        differences = found.of_metric(metric)
        if not differences:
            continue
        caption = f"{title}: difference from {first}"
        overall = [n for n, one in enumerate(differences) if one.part is None]
        headings, rows = difference_headings(first), difference_rows(differences)
        folded = "" if metric == "dice" else caption
        blocks.append(Table.of(caption, headings, rows, names=2, marked=overall, anchor=metric, folded=folded))
    changes = change_rows(found.changes.get("dice", ())[:MOST_CHANGES])
    if changes:
        headings = ["run", "case", "structure", "from", "to", "change"]
        caption = "Cases whose Dice changed most"
        blocks.append(Table.of(caption, headings, changes, names=3, anchor="changes", folded=caption))
    return [*blocks, Bullets(tuple(_statements(found, rule, resamples)))]


def classification_blocks(found: ClassificationComparison, resamples: int = RESAMPLES) -> list[Block]:
    """Return the differences of every figure, the cases that changed category, and how to read them."""
    first = found.runs[0]
    headings, rows = figure_headings(first), figure_rows(found.differences)
    blocks: list[Block] = [Table.of(f"Difference from {first}", headings, rows, names=2, anchor="figures")]
    if found.changes:
        caption = f"{len(found.changes)} changes of category"
        changed = category_change_rows(found.changes[:MOST_CHANGES])
        titled = [*CHANGE_HEADINGS[:-1], "came to"]
        blocks.append(Table.of(caption, titled, changed, names=5, anchor="changes", folded=caption))
    return [*blocks, Bullets(tuple(comparison_statements(found, resamples)))]


def comparison_picture(content: bytes, runs: Sequence[str]) -> Block:
    """Return the picture of a comparison, whose numbers the tables below hold."""
    alt = f"Differences of {', '.join(runs[1:])} from {runs[0]} with intervals, and every case as a line."
    return Picture(embed(content, "the picture of the comparison", WIDEST_PX, drawing=True), alt)


def overall_difference(found: SegmentationComparison | ClassificationComparison) -> str:
    """Return the mean Dice, or the AUC, of each run against the first in a few words."""
    metric, name = ("dice", "mean Dice") if isinstance(found, SegmentationComparison) else ("auc", "AUC")
    return "; ".join(
        f"{one.run}: {with_interval(one.difference, one.low, one.high, sign=True)} {name}, p {p_value(one.p)}"
        for one in found.of_metric(metric)
        if one.part is None
    )


def _statements(found: SegmentationComparison, rule: str, resamples: int) -> list[str]:
    first = found.runs[0]
    return [
        f"{found.cases} cases of {found.patients} patients, paired. A difference is run - {first}, with its bootstrap "
        f"95 % interval: {resamples} resamples of the patients.",
        "p: Wilcoxon signed-rank test over the patients' mean differences; p (Holm) is corrected over all classes and "
        f"runs. Effect: matched-pairs rank-biserial correlation, +1 where nobody is below {first} and somebody above.",
        f"Rule for classes that are not there: {rule}.",
    ]


def comparison_section(anchor: str, path: Path, name: str) -> PageSection:
    """Return the tables, the statements and the picture of a comparison.

    Raises:
        DataError: comparison.json is damaged.
        UsageError: it is of another format.
    """
    held = read_object(path / COMPARISON)
    if held and held.get("format") not in (SEGMENTATIONS, CLASSIFICATIONS):
        raise UsageError(f"{path / COMPARISON} is not of the format {SEGMENTATIONS}.", "write it with voco compare -o")
    try:
        runs, resamples = [str(run) for run in held["runs"]], int(held["interval"]["resamples"])
        found: SegmentationComparison | ClassificationComparison
        if held["format"] == SEGMENTATIONS:
            found = _segmentations(held)
            tables = segmentation_blocks(found, float(held["tolerance_mm"]), str(held["empty_rule"]), resamples)
        else:
            found = _classifications(held)
            tables = classification_blocks(found, resamples)
        result = overall_difference(found)
        splits = [str(split) for split in held["splits"] if split is not None]
        places = [str(place) for place in held["evaluations"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path / COMPARISON} is damaged: {error!r}.", "write it again with voco compare -o") from error
    recorded = _listed(held.get("leakage"))
    leakage = [line for run, one in zip(runs, recorded, strict=False) for line in leakage_sentences(one, run)]
    told = [*_listed(held.get("missed")), *_listed(held.get("warnings"))]  # of newer comparisons
    warnings = [Sentence(line, "warning") for line in told if isinstance(line, str)]
    unlike = _unlike(held.get("settings_that_differ"), len(runs))
    differ = [unlike_table(runs, unlike)] if unlike else []
    facts = (("folder", str(path)), *zip(runs, places, strict=False), ("split", ", ".join(dict.fromkeys(splits))))
    parts = [
        PagePart(
            "differences",
            "Differences, case by case",
            [_picture(path, runs), *tables, *warnings, *differ, *leakage],
        ),
        PagePart("about", "What was compared", [Facts(facts)]),
    ]
    lead = f"Against {runs[0]}, {result}." if result else ""
    return PageSection(anchor, name, "comparison", parts, lead=lead, result=result, place=str(path))


def _unlike(held: Any, runs: int) -> dict[str, list[Any]]:
    """Return settings that differ, with a value for each run."""
    found = held.items() if isinstance(held, Mapping) else ()
    return {str(key): values for key, values in found if isinstance(values, list) and len(values) == runs}


def _listed(held: Any) -> list[Any]:
    return held if isinstance(held, list) else []


def _segmentations(held: Mapping[str, Any]) -> SegmentationComparison:
    return SegmentationComparison(
        runs=tuple(map(str, held["runs"])),
        cases=held["cases"],
        patients=held["patients"],
        differences=tuple(map(difference_from_object, held["differences"])),
        changes={
            metric: tuple(from_json(CaseChange, one) for one in changes)
            for metric, changes in held["largest_changes"].items()
        },
        case_means={},
    )


def _classifications(held: Mapping[str, Any]) -> ClassificationComparison:
    return ClassificationComparison(
        runs=tuple(map(str, held["runs"])),
        cases=held["cases"],
        patients=held["patients"],
        categories=tuple(map(str, held["categories"])),
        differences=tuple(category_difference_from_object(one, held) for one in held["differences"]),
        agreements=tuple(from_json(Agreement, one) for one in held["right"]),
        changes=tuple(from_json(CategoryChange, one) for one in held["changed_category"]),
        true_probabilities=np.empty((0, 0)),
        swaps=held["swaps"]["ways"],
        exact=held["swaps"]["all_ways"],
    )


def _picture(path: Path, runs: list[str]) -> Block:
    try:
        return comparison_picture((path / "comparison.png").read_bytes(), runs)
    except OSError:
        return Sentence("comparison.png is not in the folder any more.", "warning")
    except VocoError as error:
        return Sentence(error.message, "warning")
