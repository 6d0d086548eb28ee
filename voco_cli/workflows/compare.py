"""`voco compare` without its command line: evaluations of the same cases, paired, as tables, a picture and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voco_cli.errors import UsageError, VocoError
from voco_cli.evaluate.classification import compare as of_classifications
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.comparison import pairing_faults
from voco_cli.evaluate.read_results import Stored
from voco_cli.evaluate.result_files import StoredEvaluation, interval_object, is_spotless, require_clean
from voco_cli.evaluate.segmentation import compare as of_segmentations
from voco_cli.evaluate.segmentation.metrics import METRICS, metric_title
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.setting_differences import (
    missed_sentences,
    settings_sentences,
    trained_as,
    training_warnings,
    unlike_settings,
)
from voco_cli.evaluate.tables import markdown
from voco_cli.figures.comparison import draw_classification_comparison, draw_comparison

SEGMENTATIONS, CLASSIFICATIONS = "voco-comparison/1", "voco-classification-comparison/1"
SHOWN_CHANGES, SHOWN_CATEGORY_CHANGES, STORED_CHANGES = 5, 10, 50


@dataclass(frozen=True)
class ComparedTable:
    """A table of a comparison.

    Attributes:
        title: empty is none.
        names: columns from the left that are words.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int


@dataclass(frozen=True)
class Compared:
    """Evaluations of the same cases, paired.

    Attributes:
        runs: names of the evaluations; the first is compared with.
        tables: for the terminal, with the largest changes alone.
        statements: what the tables must say of themselves.
        training: which settings differ between the runs, and warnings.
        leakage: what each evaluation recorded of cases that were in the training.
        spotless: nothing of it spoils the figures.
        content: all of comparison.json.
        page: all of comparison.md.
        picture: all of comparison.png.
    """

    runs: tuple[str, ...]
    tables: tuple[ComparedTable, ...]
    statements: tuple[str, ...]
    training: tuple[str, ...]
    leakage: tuple[str, ...]
    spotless: bool
    content: dict[str, Any]
    page: str
    picture: bytes


def compare_evaluations(
    names: Sequence[str], stored: Sequence[Stored], metric: str | None, resamples: int, seed: int
) -> Compared:
    """Compare evaluations of one kind with the first.

    Args:
        names: of the evaluations.
        metric: of the tables and the picture of segmentations; none is Dice.
        resamples, seed: of the bootstrap and of the permutation tests.
    Raises:
        VocoError: they cannot be paired.
        UsageError: evaluations of two kinds, or a metric that they do not have.
    """
    if metric is not None and metric not in METRICS:
        raise UsageError(f"--metric {metric} is no metric of segmentations.", f"Use one of {', '.join(METRICS)}.")
    of_kind = {kind: [isinstance(one.table, kind) for one in stored] for kind in (ScoredCases, ResultTable)}
    if all(any(found) for found in of_kind.values()):
        one, other = (names[found.index(True)] for found in of_kind.values())
        raise UsageError(f"{one} is a classification and {other} a segmentation, which cannot be compared.")
    if any(of_kind[ResultTable]):
        segmentations = [cast(StoredEvaluation[ResultTable], one) for one in stored]
        return _segmentations(names, segmentations, metric or "dice", resamples, seed)
    if metric is not None:
        raise UsageError(f"--metric {metric} is of segmentations, and these are classifications.", "leave it out")
    return _classifications(names, [cast(StoredEvaluation[ScoredCases], one) for one in stored], resamples, seed)


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the folders' own names; with the folder above where two are the same, numbered where that is no help."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    counts = Counter(names)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(names)]


def same_folders(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Return which evaluations are one and the same folder, one sentence each."""
    by_folder: dict[Path, list[str]] = {}
    for name, one in zip(names, stored, strict=True):
        by_folder.setdefault(one.folder.resolve(), []).append(name)
    groups = (same for same in by_folder.values() if len(same) > 1)
    return [f"{' and '.join(same)} are the same evaluation: every difference is 0." for same in groups]


def require_one_split(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Refuse to compare cases that weights were chosen on with cases that nobody looked at.

    Raises:
        VocoError: evaluations of different splits.
    """
    splits = {one.split: name for name, one in zip(names, stored, strict=True) if one.split}
    if len(splits) > 1:
        words = " and ".join(f"{name} is of its {split} split" for split, name in splits.items())
        raise VocoError(f"These evaluations cannot be paired: {words}.", "Evaluate both on the same split.")


def require_all_clean(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Refuse evaluations whose cases were in the training, or of which that is not known.

    Raises:
        VocoError: one of them.
    """
    for name, one in zip(names, stored, strict=True):
        if one.leakage is None:
            raise VocoError(
                f"{name} was evaluated without looking whether its cases were in the training.",
                "evaluate the run itself: voco evaluate RUN",
            )
        require_clean(one.leakage, name)


def _segmentations(
    names: Sequence[str], stored: Sequence[StoredEvaluation[ResultTable]], metric: str, resamples: int, seed: int
) -> Compared:
    first, faults = stored[0], []
    for name, one in zip(names[1:], stored[1:], strict=True):
        if one.rule != first.rule:
            faults.append(f"{name} has the rule {one.rule!r} for empty classes, and {names[0]} {first.rule!r}")
        if one.tolerance_mm != first.tolerance_mm:
            faults.append(
                f"{name} has a tolerance of {one.tolerance_mm:g} mm, and {names[0]} {first.tolerance_mm:g} mm"
            )
    _require_pairs(names, stored, faults, "labels with the same options")
    tables = [one.table for one in stored]
    found = of_segmentations.compare_tables(names, tables, resamples, seed)
    title, missed = metric_title(metric, first.tolerance_mm), missed_sentences(found, tables, first.tolerance_mm)
    headings = of_segmentations.difference_headings(names[0])
    rows = of_segmentations.difference_rows(found.of_metric(metric))
    changes = of_segmentations.change_rows(found.changes[metric][:SHOWN_CHANGES])
    statements = [
        f"{found.cases} cases of {found.patients} patients, paired; difference: run - {names[0]}, with its "
        "bootstrap 95 % interval, resampled by patient.",
        "p: Wilcoxon signed-rank test over the patients' mean differences; Holm's correction over all classes and "
        f"runs; effect: matched-pairs rank-biserial correlation (+1: nobody below {names[0]}, somebody above). "
        f"Rule for empty classes: {first.rule}.",
        *missed,
    ]
    head = {"tolerance_mm": first.tolerance_mm, "empty_rule": first.rule, "missed": missed}
    return _compared(
        names,
        stored,
        tables=(
            ComparedTable(f"{title}: difference from {names[0]}", headings, rows, 2),
            ComparedTable("changed most", of_segmentations.CHANGE_HEADINGS, changes, 3),
        ),
        statements=statements,
        interval=interval_object(resamples, seed),
        content=(SEGMENTATIONS, {**head, **of_segmentations.comparison_object(found, STORED_CHANGES)}),
        page=[f"# {title}\n", markdown(headings, rows)],
        picture=draw_comparison(found, metric, first.tolerance_mm),
    )


def _classifications(
    names: Sequence[str], stored: Sequence[StoredEvaluation[ScoredCases]], resamples: int, seed: int
) -> Compared:
    _require_pairs(names, stored, [], "categories")
    found = of_classifications.compare_classifications(names, [one.table for one in stored], resamples, seed)
    headings = of_classifications.figure_headings(names[0])
    rows = of_classifications.figure_rows(found.differences)
    changed = of_classifications.CHANGE_HEADINGS
    changes = of_classifications.category_change_rows(found.changes)
    page = ["# Classification\n", markdown(headings, rows)]
    tables = [ComparedTable(f"difference from {names[0]}", headings, rows, 2)]
    if changes:
        page += ["## Cases that changed category\n", markdown(changed, changes)]
        tables.append(ComparedTable("changed category", changed, changes[:SHOWN_CATEGORY_CHANGES], 5))
    more = len(changes) - SHOWN_CATEGORY_CHANGES
    return _compared(
        names,
        stored,
        tables=tables,
        only_shown=[f"{more} more changed category, all in comparison.md."] if more > 0 else [],
        statements=of_classifications.comparison_statements(found, resamples),
        interval=interval_object(resamples, seed),
        content=(CLASSIFICATIONS, of_classifications.classification_comparison_object(found)),
        page=page,
        picture=draw_classification_comparison(found),
    )


def _require_pairs(names: Sequence[str], stored: Sequence[Stored], faults: Sequence[str], same: str) -> None:
    """Refuse, with all that differs, what would compare unlike things.

    Raises:
        VocoError: they cannot be paired.
    """
    tables: list[Any] = [one.table for one in stored]
    faults = [*faults, *pairing_faults(names, tables)]
    if faults:
        pairs = zip(names, stored, strict=True)
        unmeasured = [f"{name} could not measure {', '.join(one.failed)}" for name, one in pairs if one.failed]
        raise VocoError(
            f"These evaluations cannot be paired: {'; '.join([*faults, *unmeasured])}.",
            f"Evaluate the same cases against the same {same}.",
        )


def _compared(
    names: Sequence[str],
    stored: Sequence[Stored],
    *,
    tables: Sequence[ComparedTable],
    statements: Sequence[str],
    interval: dict[str, Any],
    content: tuple[str, dict[str, Any]],
    page: Sequence[str],
    picture: bytes,
    only_shown: Sequence[str] = (),
) -> Compared:
    """Put what both kinds of evaluations have in common beside their differences."""
    trained = [trained_as(one.folder) for one in stored]
    warnings = training_warnings(names, trained)
    training = (*settings_sentences(names, trained), *(f"warning: {line}" for line in warnings))
    recorded = [(name, one.leakage) for name, one in zip(names, stored, strict=True) if one.leakage]
    leakage = tuple(f"{name}: {sentence}" for name, one in recorded for sentence in one.get("sentences", ()))
    file_format, found = content
    return Compared(
        runs=tuple(names),
        tables=tuple(tables),
        statements=(*only_shown, *statements),
        training=training,
        leakage=leakage,
        spotless=all(is_spotless(one) for _, one in recorded),
        content={
            "format": file_format,
            "evaluations": [str(one.folder) for one in stored],
            "splits": [one.split for one in stored],
            "leakage": [one.leakage for one in stored],
            "settings_that_differ": unlike_settings(trained),
            "warnings": warnings,
            "interval": interval,
            **found,
        },
        page="\n".join([*page, *statements, *training, *leakage]) + "\n",
        picture=picture,
    )
