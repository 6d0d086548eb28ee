"""From the folders of finished runs to what they say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.errors import VocoError
from voco_cli.evaluation.label_efficiency import LabelEfficiency, ScoredRun, label_efficiency
from voco_cli.evaluation.stored import Stored, read_stored
from voco_cli.study.metric import StudyMetric, metric_of
from voco_cli.study.plan import BASELINE
from voco_cli.study.record import RunRecord, StudyRecord


@dataclass(frozen=True)
class Outcome:
    """What a study found so far.

    Attributes:
        found: scores and differences; None while nothing is finished.
        split: that all runs were measured on.
        excluded: finished runs that cannot be paired with the others, with the reason.
        seen: arm and sentence, where evaluated cases were seen in its training, or nobody can tell.
    """

    found: LabelEfficiency | None
    split: str = ""
    excluded: tuple[tuple[str, str], ...] = ()
    seen: tuple[tuple[str, str], ...] = ()


def gather(folder: Path, record: StudyRecord) -> Outcome:
    """Read every finished run and compare the arms; runs that were measured on other cases are left out, and named.

    Raises:
        DataError: an evaluation that is missing or damaged.
    """
    metric = metric_of(record.settings)
    done = [run for run in record.in_order() if run.status == "done" and run.evaluation is not None]
    stored = {run.folder: read_stored(folder / str(run.evaluation)) for run in done}
    usable, excluded = _pairable(done, stored, metric)
    if not usable:
        return Outcome(None, excluded=excluded)
    first = stored[usable[0].folder].table
    arms = list(record.arms)
    scored = [
        ScoredRun(run.arm, run.cases, run.seed, metric.values(stored[run.folder].table, first))
        for run in sorted(usable, key=lambda run: arms.index(run.arm))
    ]
    resamples = int(record.settings["evaluate.resamples"])
    found = label_efficiency(scored, first.patients, metric.yardstick(first), baseline=BASELINE, resamples=resamples)
    return Outcome(found, str(usable[0].split), excluded, _seen(usable, stored))


def _pairable(
    done: Sequence[RunRecord], stored: dict[str, Stored], metric: StudyMetric
) -> tuple[list[RunRecord], tuple[tuple[str, str], ...]]:
    """Runs that were measured on the same cases as most, and the others with the reason."""
    if not done:
        return [], ()
    measured = {run.folder: (run.split, tuple(sorted(stored[run.folder].table.cases))) for run in done}
    usual = Counter(measured.values()).most_common(1)[0][0]
    first = next(run for run in done if measured[run.folder] == usual)
    usable, excluded = [], []
    for run in done:
        faults = metric.faults((first.words, run.words), [stored[one.folder].table for one in (first, run)])
        if run.split != first.split:
            faults.insert(0, f"it was measured on the {run.split} split, and {first.words} on {first.split}")
        faults += [f"{case} could not be measured" for case in stored[run.folder].failed if faults]
        if faults:
            excluded.append((run.words, "; ".join(faults)))
        else:
            usable.append(run)
    return usable, tuple(excluded)


def _seen(usable: Sequence[RunRecord], stored: dict[str, Stored]) -> tuple[tuple[str, str], ...]:
    """What evaluations recorded of cases that were seen in training, once for each arm."""
    told: dict[tuple[str, str], None] = {}
    for run in usable:
        recorded = stored[run.folder].contamination or {}
        if recorded.get("found") or recorded.get("unknown_weights"):
            told |= {(run.arm, sentence): None for sentence in recorded.get("sentences", ())}
    return tuple(told)


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
