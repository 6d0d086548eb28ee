"""A folder that `voco compare -o` wrote, as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluation.classification_comparison import (
    Agreement,
    CategoryChange,
    ClassificationComparison,
    FigureDifference,
)
from voco_cli.evaluation.comparison import CaseChange, Comparison, Difference
from voco_cli.report.blocks import Block, Facts, Sentence
from voco_cli.report.held import made
from voco_cli.report.kinds import COMPARISON
from voco_cli.report.measured import seen_sentences
from voco_cli.report.paired import (
    auc_difference,
    classification_blocks,
    comparison_blocks,
    comparison_picture,
    overall_difference,
    unlike_table,
)
from voco_cli.report.run_record import read_object
from voco_cli.report.sections import Part, Section

SEGMENTATIONS, CLASSIFICATIONS = "voco-comparison/1", "voco-classification-comparison/1"


def comparison_section(anchor: str, path: Path, name: str) -> Section:
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
            tables = comparison_blocks(anchor, found, float(held["tolerance_mm"]), str(held["empty_rule"]), resamples)
            result = overall_difference(found)
        else:
            told = _classifications(held)
            tables, result = classification_blocks(anchor, told, resamples), auc_difference(told)
        splits = [str(split) for split in held["splits"] if split is not None]
        places = [str(place) for place in held["evaluations"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path / COMPARISON} is damaged: {error!r}.", "write it again with voco compare -o") from error
    recorded = held.get("contamination")
    pairs = zip(runs, recorded if isinstance(recorded, list) else [], strict=False)
    seen = [sentence for run, one in pairs for sentence in seen_sentences(one, run)]
    told_apart = [Sentence(line, "warning") for key in ("missed", "warnings") for line in _sentences(held.get(key))]
    unlike = _unlike(held.get("settings_that_differ"), len(runs))
    differ = [unlike_table(anchor, runs, unlike)] if unlike else []
    blocks: list[Block] = [_picture(path, runs), *tables, *told_apart, *differ, *seen]
    facts = Facts(
        (("folder", str(path)), *zip(runs, places, strict=False), ("split", ", ".join(dict.fromkeys(splits))))
    )
    parts = (
        Part(f"{anchor}-differences", "Differences, case by case", tuple(blocks)),
        Part(f"{anchor}-about", "What was compared", (facts,)),
    )
    lead = f"Against {runs[0]}, {result}." if result else ""
    return Section(anchor, name, "comparison", parts, lead=lead, result=result, place=str(path))


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
