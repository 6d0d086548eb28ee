"""The evaluations of a fine-tuning run, whichever kind, rebuilt from what their folders hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.document.blocks import Sentence
from voco_cli.errors import DataError, VocoError
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.classification.table import summarise_classification
from voco_cli.evaluate.read_results import RUN_SPLITS, read_results
from voco_cli.evaluate.result_files import SUMMARY, Provenance, StoredEvaluation, damaged
from voco_cli.evaluate.segmentation.evaluate import Evaluation, EvaluationOptions
from voco_cli.evaluate.segmentation.metrics import empty_rule
from voco_cli.evaluate.segmentation.table import ResultTable, summarise
from voco_cli.report.run_record import read_object


@dataclass(frozen=True)
class Segmented:
    """A segmentation that was measured; its figures are computed again from its cases, with the same draws."""

    split: str
    stored: StoredEvaluation[ResultTable]
    evaluation: Evaluation
    provenance: Provenance | None


@dataclass(frozen=True)
class Classified:
    """A classification that was measured."""

    split: str
    stored: StoredEvaluation[ScoredCases]
    evaluation: ClassificationEvaluation


Measured = Segmented | Classified


@dataclass(frozen=True)
class Evaluations:
    """All that was measured of a run.

    Attributes:
        measured: test before validation.
        faults: what is wrong with those that cannot be read, one sentence each.
    """

    measured: tuple[Measured, ...] = ()
    faults: tuple[str, ...] = ()


def evaluations_of(run: Path) -> Evaluations:
    """The evaluations that lie in a run folder."""
    found: list[Measured] = []
    faults = []
    for split in RUN_SPLITS:
        folder = run / "evaluation" / split
        if not (folder / SUMMARY).is_file():
            continue
        try:
            found.append(_measured(split, folder))
        except VocoError as error:
            faults.append(error.message)
    return Evaluations(tuple(found), tuple(faults))


def seen_sentences(leakage: Mapping[str, Any] | None, whose: str = "") -> list[Sentence]:
    """What an evaluation recorded of cases that were seen in training; a warning where there is something.

    Args:
        whose: name of the run, where there are several.
    """
    held = leakage if isinstance(leakage, Mapping) else {}
    spotted = bool(held.get("found") or held.get("unknown_weights"))
    before, lines = f"{whose}: " if whose else "", held.get("sentences")
    shown = lines if isinstance(lines, list) else []
    return [Sentence(f"{before}{line}", "warning" if spotted else "plain") for line in shown]


def _measured(split: str, folder: Path) -> Measured:
    stored, summary = read_results(folder), read_object(folder / SUMMARY)
    try:
        if isinstance(stored.table, ScoredCases):
            return Classified(split, stored, _classification(stored.table, summary))
        return Segmented(split, stored, _segmentation(stored, summary), _provenance(summary))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, error) from error


def _segmentation(stored: StoredEvaluation[ResultTable], held: Mapping[str, Any]) -> Evaluation:
    if not stored.table.cases:
        raise DataError(f"{stored.folder} holds no case.")
    drawn = held["interval"]
    options = EvaluationOptions(
        stored.tolerance_mm, empty_rule(stored.rule), int(drawn["resamples"]), int(drawn["seed"])
    )
    return Evaluation(
        table=stored.table,
        summary=summarise(stored.table, options.resamples, options.seed),
        options=options,
        failed=_failed(held),
        unpredicted=tuple(map(str, held["unpredicted"])),
        unlisted={int(label): int(cases) for label, cases in held["unlisted_labels"].items()},
        notes=tuple(map(str, held["notes"])),
    )


def _classification(table: ScoredCases, held: Mapping[str, Any]) -> ClassificationEvaluation:
    drawn = held["interval"]
    summary = summarise_classification(table, int(drawn["resamples"]), int(drawn["seed"]))
    return ClassificationEvaluation(table, summary, _failed(held), _provenance(held))


def _failed(held: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(one["case"]), str(one["reason"])) for one in held["failed"])


def _provenance(held: Mapping[str, Any]) -> Provenance | None:
    if "run" not in held:
        return None
    # What was seen in training is told by seen_sentences, apart.
    return Provenance(str(held["run"]), str(held["split"]), str(held["chosen"]), {})
