"""A folder that `voco compare -o` wrote, as a section of a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.document.blocks import (
    Block,
    Bullets,
    Column,
    Facts,
    PagePart,
    PageSection,
    Picture,
    Sentence,
    Table,
    Tone,
    Value,
)
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.classification import compare
from voco_cli.evaluate.classification.compare import (
    Agreement,
    CategoryChange,
    ClassificationComparison,
    FigureDifference,
    compare_classifications,
)
from voco_cli.evaluate.classification.results import (
    CHANGE_HEADINGS,
    comparison_statements,
    figure_headings,
    figure_rows,
)
from voco_cli.evaluate.classification.results import change_rows as category_rows
from voco_cli.evaluate.segmentation import compare as comparison
from voco_cli.evaluate.segmentation.compare import OVERALL, CaseChange, Comparison, Difference, compare_tables
from voco_cli.evaluate.segmentation.metrics import METRICS
from voco_cli.evaluate.segmentation.results import (
    change_rows,
    difference_headings,
    difference_rows,
    metric_title,
    number,
    p_value,
)
from voco_cli.evaluate.setting_differences import (
    missed_sentences,
    settings_sentences,
    trained_as,
    training_warnings,
    unlike_settings,
)
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.figures.comparison import draw_classification_comparison, draw_comparison
from voco_cli.report.curves import made
from voco_cli.report.measured import Classified, Evaluations, Measured, Segmented, seen_sentences
from voco_cli.report.run_record import COMPARISON, STUDY, read_object
from voco_cli.report.shared_parts import embed, settings_table, value_words
from voco_cli.study.analysis import ArmScore, Gain, LabelEfficiency
from voco_cli.study.metrics import Words
from voco_cli.study.plan import BASELINE, StudyRecord, read_record
from voco_cli.workflows.study_outcome import (
    PICTURE,
    conclusion,
    seed_headings,
    seed_rows,
    structure_headings,
    structure_rows,
    study_headings,
    study_rows,
)

MOST_CHANGES = 50
WIDEST_PX = 1400


def paired_section(runs: Sequence[tuple[str, Evaluations]]) -> PageSection:
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


def _section(blocks: Sequence[Block]) -> PageSection:
    part = PagePart("differences", "Differences, case by case", blocks)
    return PageSection("compared", "Fine-tuning runs compared", "side by side", (part,))


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
        return compare.pairing_faults(names, [first.stored.table, other.stored.table])
    return ["one is a segmentation and the other a classification"]


def _compared(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    names = [name for name, _ in pairs]
    segmented = [one for _, one in pairs if isinstance(one, Segmented)]
    seen = [sentence for name, one in pairs for sentence in seen_sentences(one.stored.leakage, name)]
    if segmented:
        found = compare_tables(names, [one.stored.table for one in segmented])
        first = segmented[0].stored
        drawn = draw_comparison(found, "dice", first.tolerance_mm)
        picture = comparison_picture(drawn, found.runs)
        missed = missed_sentences(found, [one.stored.table for one in segmented], first.tolerance_mm)
        blocks = comparison_blocks(found, first.tolerance_mm, first.rule, RESAMPLES)
        return [picture, *blocks, *(Sentence(line, "warning") for line in missed), *_training(pairs), *seen]
    classified = [one.stored.table for _, one in pairs if isinstance(one, Classified)]
    told = compare_classifications(names, classified)
    picture = comparison_picture(draw_classification_comparison(told), told.runs)
    return [picture, *classification_blocks(told, RESAMPLES), *_training(pairs), *seen]


def _training(pairs: Sequence[tuple[str, Measured]]) -> list[Block]:
    """Settings that differ, and warnings where steps or training cases do."""
    names, trained = [name for name, _ in pairs], [trained_as(one.stored.folder) for _, one in pairs]
    warnings = [Sentence(line, "warning") for line in training_warnings(names, trained)]
    unlike = unlike_settings(trained)
    if not unlike:
        return [*warnings, *map(Sentence, settings_sentences(names, trained))]
    return [*warnings, unlike_table(names, unlike)]


def unlike_table(names: Sequence[str], unlike: Mapping[str, Sequence[Any]]) -> Block:
    """Settings that are not the same in all runs, one column a run."""
    rows = [[key, *map(value_words, values)] for key, values in unlike.items()]
    caption = f"{len(rows)} settings that differ between the runs"
    return Table.of(caption, ["setting", *names], rows, names=len(names) + 1, anchor="settings")


def comparison_blocks(
    found: Comparison, tolerance_mm: float, rule: str, resamples: int, metrics: Sequence[str] = METRICS
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
            Table.of(
                f"{title}: difference from {first}",
                difference_headings(first),
                difference_rows(differences),
                names=2,
                folded="" if metric == "dice" else f"{title}: difference from {first}",
                marked=[n for n, one in enumerate(differences) if one.structure == OVERALL],
                anchor=metric,
            )
        )
    changes = change_rows(found.changes.get("dice", ())[:MOST_CHANGES])
    if changes:
        headings = ["run", "case", "structure", "from", "to", "change"]
        caption = "Cases whose Dice changed most"
        blocks.append(Table.of(caption, headings, changes, names=3, anchor="changes", folded=caption))
    return [*blocks, Bullets(tuple(_statements(found, rule, resamples)))]


def classification_blocks(found: ClassificationComparison, resamples: int) -> list[Block]:
    """Differences of every figure, the cases that changed category, and how to read them."""
    first = found.runs[0]
    headings, rows = figure_headings(first), figure_rows(found.differences)
    blocks: list[Block] = [Table.of(f"Difference from {first}", headings, rows, names=2, anchor="figures")]
    if found.changes:
        caption = f"{len(found.changes)} changes of category"
        changed = category_rows(found.changes[:MOST_CHANGES])
        titled = [*CHANGE_HEADINGS[:-1], "came to"]
        blocks.append(Table.of(caption, titled, changed, names=5, anchor="changes", folded=caption))
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


NAMES = {"dice": ("Dice", "class", "classes"), "auc": ("AUC", "category", "categories")}
"""What a study is measured by, and what that can be taken of alone."""
WIDEST_PX = 1400


def study_section(anchor: str, path: Path, name: str) -> PageSection:
    """All of a study, finished or not.

    Raises:
        DataError: study.json is damaged.
        UsageError: it is of another format.
    """
    record, held = read_record(path), read_object(path / STUDY)
    if record is None:
        raise DataError(f"{path / STUDY} is not there any more.")
    try:
        found = _found(held)
        statements = tuple(map(str, held.get("statements", ())))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path / STUDY} is damaged: {error!r}.", "the same voco study command writes it again"
        ) from error
    conclusions = [conclusion(one, found.baseline) for one in found.gains] if found else []
    words, tone = _standing(record)
    parts = (
        PagePart("follows", "What follows", _follows(path, found, conclusions)),
        *_tables(found),
        PagePart("read", "How to read this", [Bullets(statements)]),
        PagePart("runs", "Every run", [_runs(record)]),
        PagePart("settings", "Settings that all runs share", [_settings(record)]),
        PagePart("about", "About", [_about(path, record, held)]),
    )
    return PageSection(
        anchor=anchor,
        title=name,
        kind="study",
        parts=parts,
        status=words,
        tone=tone,
        lead=conclusions[-1] if conclusions else "No pair of runs is finished yet, so nothing follows.",
        lead_tone="plain" if conclusions else "warning",
        result=conclusions[-1] if conclusions else "nothing yet",
        place=str(path),
    )


def _found(held: Mapping[str, Any]) -> LabelEfficiency | None:
    """What the finished runs said when study.json was written."""
    if not held.get("scores"):
        return None
    metric, part, parts = NAMES[held["metric"]]
    return LabelEfficiency(
        baseline=BASELINE,
        words=Words(metric, part, parts, score="", paired="", better="", test="", effect=""),
        cases=held["measured_on"]["cases"],
        patients=held["measured_on"]["patients"],
        scores=tuple(made(ArmScore, one) for one in held["scores"]),
        gains=tuple(made(Gain, one) for one in held["differences"]),
        by_structure=tuple(made(Gain, one) for one in held["differences_by_structure"]),
    )


def _standing(record: StudyRecord) -> tuple[str, Tone]:
    counts = Counter(run.status for run in record.runs.values())
    if counts["failed"]:
        return f"{counts['failed']} of {len(record.runs)} runs failed", "bad"
    waiting = counts["waiting"] + counts["started"] + counts["interrupted"]
    if waiting:
        return f"{waiting} of {len(record.runs)} runs not finished", "warning"
    return "done", "good"


def _follows(path: Path, found: LabelEfficiency | None, conclusions: Sequence[str]) -> list[Block]:
    if found is None:
        return [Sentence("No run is finished yet.", "warning")]
    blocks: list[Block] = [Bullets(tuple(conclusions))] if conclusions else []
    try:
        picture = embed((path / PICTURE).read_bytes(), PICTURE, WIDEST_PX, drawing=True)
    except OSError:
        return [*blocks, Sentence(f"{PICTURE} is not in the folder any more.", "warning")]
    except VocoError as error:
        return [*blocks, Sentence(error.message, "warning")]
    metric = found.words.metric
    alt = (
        f"{metric} of {', '.join(found.arms)} by number of labelled cases, with intervals; the tables have the numbers."
    )
    return [*blocks, Picture(picture, alt, f"{metric} by number of labelled cases.")]


def _tables(found: LabelEfficiency | None) -> list[PagePart]:
    if found is None:
        return []
    metric, part = found.words.metric, found.words.part
    headings = study_headings(found)
    # What follows stands beside the difference that it follows from, whatever the width of the screen.
    order = sorted(range(len(headings)), key=lambda i: 4.5 if headings[i] == "shown" else i)
    of_sizes = Table.of(
        f"{metric} by number of labelled cases",
        [headings[i] for i in order],
        [[row[i] for i in order] for row in study_rows(found)],
        names=2,
        anchor="sizes",
    )
    parts = [PagePart("table", "By number of labelled cases", [of_sizes])]
    if found.by_structure:
        headings, rows = structure_headings(found), structure_rows(found)
        largest = "; ".join(dict.fromkeys(f"{one.arm} with {one.labelled}" for one in found.by_structure))
        caption = f"By {part}, with the most labelled cases ({largest})"
        of_parts = Table.of(caption, headings, rows, names=len(headings) - 5, anchor="structures")
        parts.append(PagePart("parts", f"By {part}", [of_parts]))
    of_seeds = Table.of(f"{metric} of every seed", seed_headings(found), seed_rows(found), names=2, anchor="seeds")
    return [*parts, PagePart("every", "Every seed", [of_seeds])]


def _runs(record: StudyRecord) -> Table:
    """Return a table of one row a run, with what became of it."""
    columns = [
        *map(Column, ("labelled cases", "weights")),
        Column("seed", True),
        Column("status"),
        Column("score", True, ".3f"),
        Column("minutes", True, ".1f"),
        *map(Column, ("folder", "weights measured, or why it failed")),
    ]
    runs = record.in_order()
    rows: list[list[Value]] = []
    for run in runs:
        minutes = None if run.took_s is None else run.took_s / 60
        words = [run.folder, run.reason or run.how_chosen or ""]
        rows.append([run.cases, run.arm, run.seed, run.status, run.score, minutes, *words])
    failed = [n for n, run in enumerate(runs) if run.status == "failed"]
    caption = "Runs; each is a folder that voco report shows in full"
    return Table.of(caption, columns, rows, names=2, marked=failed, anchor="table")


def _settings(record: StudyRecord) -> Table:
    words = f"{len(record.settings)} settings that all runs share"
    return settings_table(words, record.settings, anchor="shared", folded=words)


def _about(path: Path, record: StudyRecord, held: Mapping[str, Any]) -> Facts:
    arms = [(f"weights: {name}", arm.weights or "fresh") for name, arm in record.arms.items()]
    about = (
        ("folder", str(path)),
        ("task", record.task),
        ("split", record.split),
        ("voco", str(held.get("version", ""))),
    )
    return Facts((*about, *arms))


SEGMENTATIONS, CLASSIFICATIONS = "voco-comparison/1", "voco-classification-comparison/1"


def comparison_section(anchor: str, path: Path, name: str) -> PageSection:
    """The tables, the statements and the picture of a comparison.

    Raises:
        DataError: comparison.json is damaged.
        UsageError: it is of another format.
    """
    held = read_object(path / COMPARISON)
    if held and held.get("format") not in (SEGMENTATIONS, CLASSIFICATIONS):
        raise UsageError(f"{path / COMPARISON} is not of the format {SEGMENTATIONS}.", "write it with voco compare -o")
    try:
        runs, resamples = [str(run) for run in held["runs"]], int(held["interval"]["resamples"])
        if held["format"] == SEGMENTATIONS:
            found = _segmentations(held)
            tables = comparison_blocks(found, float(held["tolerance_mm"]), str(held["empty_rule"]), resamples)
            result = overall_difference(found)
        else:
            told = _classifications(held)
            tables, result = classification_blocks(told, resamples), auc_difference(told)
        splits = [str(split) for split in held["splits"] if split is not None]
        places = [str(place) for place in held["evaluations"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path / COMPARISON} is damaged: {error!r}.", "write it again with voco compare -o") from error
    recorded = held.get("leakage")
    pairs = zip(runs, recorded if isinstance(recorded, list) else [], strict=False)
    seen = [sentence for run, one in pairs for sentence in seen_sentences(one, run)]
    told_apart = [Sentence(line, "warning") for key in ("missed", "warnings") for line in _sentences(held.get(key))]
    unlike = _unlike(held.get("settings_that_differ"), len(runs))
    differ = [unlike_table(runs, unlike)] if unlike else []
    blocks: list[Block] = [_picture(path, runs), *tables, *told_apart, *differ, *seen]
    facts = Facts(
        (("folder", str(path)), *zip(runs, places, strict=False), ("split", ", ".join(dict.fromkeys(splits))))
    )
    parts = (
        PagePart("differences", "Differences, case by case", blocks),
        PagePart("about", "What was compared", [facts]),
    )
    lead = f"Against {runs[0]}, {result}." if result else ""
    return PageSection(anchor, name, "comparison", parts, lead=lead, result=result, place=str(path))


def _unlike(held: Any, runs: int) -> dict[str, list[Any]]:
    """Settings that differ, with a value for each run."""
    found = held.items() if isinstance(held, Mapping) else ()
    return {str(key): values for key, values in found if isinstance(values, list) and len(values) == runs}


def _sentences(held: Any) -> list[str]:
    """Lines that newer comparisons hold."""
    return [line for line in held if isinstance(line, str)] if isinstance(held, list) else []


def _segmentations(held: Mapping[str, Any]) -> Comparison:
    return Comparison(
        runs=tuple(map(str, held["runs"])),
        cases=held["cases"],
        patients=held["patients"],
        differences=tuple(made(Difference, one) for one in held["differences"]),
        changes={
            metric: tuple(made(CaseChange, one) for one in changes)
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
        differences=tuple(made(FigureDifference, one) for one in held["differences"]),
        agreements=tuple(made(Agreement, one) for one in held["right"]),
        changes=tuple(made(CategoryChange, one) for one in held["changed_category"]),
        true_probabilities=np.empty((0, 0)),
        right=np.empty((0, 0), np.bool_),
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
