"""From the folders of finished runs to what they say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco_cli.errors import VocoError
from voco_cli.evaluation.comparison import pairing_faults
from voco_cli.evaluation.label_efficiency import LabelEfficiency, ScoredRun, label_efficiency
from voco_cli.evaluation.result_folder import StoredEvaluation, read_evaluation
from voco_cli.evaluation.results import ResultTable
from voco_cli.evaluation.summary import nan_mean
from voco_cli.study.plan import BASELINE
from voco_cli.study.record import RunRecord, StudyRecord

METRIC = "dice"


@dataclass(frozen=True)
class Outcome:
    """What a study found so far.

    Attributes:
        found: scores and differences; None while nothing is finished.
        split: that all runs were measured on.
        structures: names of classes and regions.
        excluded: finished runs that cannot be paired with the others, with the reason.
        seen: arm and sentence, where evaluated cases were seen in its training, or nobody can tell.
    """

    found: LabelEfficiency | None
    split: str = ""
    structures: tuple[str, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    seen: tuple[tuple[str, str], ...] = ()


def case_score(table: ResultTable) -> float:
    """Mean over cases of each case's mean Dice over the classes that it has a value for."""
    return float(nan_mean(nan_mean(table.of_metric(METRIC)[:, table.averaged], axis=1), axis=0))


def gather(folder: Path, record: StudyRecord) -> Outcome:
    """Read every finished run and compare the arms; runs that were measured on other cases are left out, and named.

    Raises:
        DataError: an evaluation that is missing or damaged.
    """
    done = [run for run in record.in_order() if run.status == "done" and run.evaluation is not None]
    stored = {run.folder: read_evaluation(folder / str(run.evaluation)) for run in done}
    usable, excluded = _pairable(done, stored)
    if not usable:
        return Outcome(None, excluded=excluded)
    first = stored[usable[0].folder].table
    names = tuple(one.name for one in first.structures)
    arms = list(record.arms)
    scored = [
        ScoredRun(run.arm, run.cases, run.seed, _values_like(stored[run.folder].table, first))
        for run in sorted(usable, key=lambda run: arms.index(run.arm))
    ]
    resamples = int(record.settings["evaluate.resamples"])
    found = label_efficiency(scored, first.patients, names, first.averaged, baseline=BASELINE, resamples=resamples)
    return Outcome(found, str(usable[0].split), names, excluded, _seen(usable, stored))


def _pairable(
    done: Sequence[RunRecord], stored: dict[str, StoredEvaluation]
) -> tuple[list[RunRecord], tuple[tuple[str, str], ...]]:
    """Runs that were measured on the same cases as most, and the others with the reason."""
    if not done:
        return [], ()
    measured = {run.folder: (run.split, tuple(sorted(stored[run.folder].table.cases))) for run in done}
    usual = Counter(measured.values()).most_common(1)[0][0]
    first = next(run for run in done if measured[run.folder] == usual)
    usable, excluded = [], []
    for run in done:
        faults = pairing_faults((first.words, run.words), [stored[one.folder].table for one in (first, run)])
        if run.split != first.split:
            faults.insert(0, f"it was measured on the {run.split} split, and {first.words} on {first.split}")
        faults += [f"{case} could not be measured" for case in stored[run.folder].failed if faults]
        if faults:
            excluded.append((run.words, "; ".join(faults)))
        else:
            usable.append(run)
    return usable, tuple(excluded)


def _seen(usable: Sequence[RunRecord], stored: dict[str, StoredEvaluation]) -> tuple[tuple[str, str], ...]:
    """What evaluations recorded of cases that were seen in training, once for each arm."""
    told: dict[tuple[str, str], None] = {}
    for run in usable:
        recorded = stored[run.folder].contamination or {}
        if recorded.get("found") or recorded.get("unknown_weights"):
            told |= {(run.arm, sentence): None for sentence in recorded.get("sentences", ())}
    return tuple(told)


def _values_like(table: ResultTable, like: ResultTable) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Dice with cases and structures in the order of another table."""
    rows = [table.cases.index(case) for case in like.cases]
    columns = [table.structures.index(one) for one in like.structures]
    return table.of_metric(METRIC)[np.ix_(rows, columns)]


def require_complete(record: StudyRecord, outcome: Outcome) -> None:
    """Say at the end what did not become part of the outcome.

    Raises:
        VocoError: runs that failed, or that cannot be paired.
    """
    failed = [(run.words, run.reason or "") for run in record.in_order() if run.status == "failed"]
    left_out = [*failed, *outcome.excluded]
    if left_out:
        lines = "\n".join(f"  {words}: {reason}" for words, reason in left_out)
        raise VocoError(
            f"{len(left_out)} of {len(record.runs)} runs are not part of the outcome:\n{lines}",
            "the same command tries the failed ones again",
        )
