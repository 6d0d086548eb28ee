"""The outcome of a study: its runs read and compared, study.json, study.md with its tables, and study.png."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import write_atomic
from voco_cli.errors import VocoError
from voco_cli.evaluate.comparison import Difference, pairing_faults
from voco_cli.evaluate.read_results import Stored, read_results
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.evaluate.tables import NONE, figure, interval, markdown, p_value, with_interval, without_nan
from voco_cli.figures.label_efficiency import draw_label_efficiency
from voco_cli.foreign_text import visible
from voco_cli.study.analysis import (
    METRICS,
    SIGNIFICANT,
    ArmScore,
    LabelEfficiency,
    ScoredRun,
    Verdict,
    gain_object,
    label_efficiency,
    verdict,
)
from voco_cli.study.arms import BASELINE, LONGER
from voco_cli.study.costs import COST_HEADINGS, ArmCost, arm_costs, cost_note, cost_rows
from voco_cli.study.record import StudyRecord, StudyRun, write_record

TABLE, PICTURE = "study.md", "study.png"
SHOWN: dict[Verdict, str] = {
    "higher": "higher",
    "lower": "lower",
    "no difference shown": "no",
    "one seed only": "one seed",
}
"""What the column of verdicts says."""
ENOUGH_SEEDS = 6
"""From here on, seeds that all agree are rarer than 5 % where there is no effect: 2 / 2^6 = 0.03."""


@dataclass(frozen=True)
class StudyOutcome:
    """What a study found so far.

    Attributes:
        found: scores and differences; None while nothing is finished.
        split: that all runs were measured on.
        excluded: finished runs that cannot be paired with the others, with the reason.
        leakage: arm and sentence, where evaluated cases were in its training, or nobody can tell.
        to_longer: differences from the arm from scratch that got the time of a pre-training.
        costs: of each arm.
    """

    found: LabelEfficiency | None
    split: str = ""
    excluded: tuple[tuple[str, str], ...] = ()
    leakage: tuple[tuple[str, str], ...] = ()
    to_longer: tuple[Difference, ...] = ()
    costs: tuple[ArmCost, ...] = ()


def gather(folder: Path, record: StudyRecord) -> StudyOutcome:
    """Read every finished run and compare the arms; runs that were measured on other cases are left out, and named.

    Raises:
        DataError: an evaluation that is missing or damaged.
    """
    done = [run for run in record.in_order() if run.status == "done" and run.evaluation is not None]
    stored = {run.folder: read_results(folder / str(run.evaluation)) for run in done}
    usable, excluded = _pairable(done, stored)
    if not usable:
        return StudyOutcome(None, excluded=excluded)
    first: Any = stored[usable[0].folder].table
    arms = list(record.arms)
    scored: list[ScoredRun[Any]] = [
        ScoredRun(run.arm, run.cases, run.seed, stored[run.folder].table.like(first))
        for run in sorted(usable, key=lambda run: arms.index(run.arm))
    ]
    resamples = int(record.settings["evaluate.resamples"])
    metric = METRICS[record.settings["task.kind"]]
    found = label_efficiency(scored, metric, baseline=BASELINE, resamples=resamples)
    others = [run for run in scored if run.arm != BASELINE]
    to_longer: tuple[Difference, ...] = ()
    if any(run.arm == LONGER for run in others):
        to_longer = label_efficiency(others, metric, baseline=LONGER, resamples=resamples).gains
    split, leakage = str(usable[0].split), _leakage(usable, stored)
    return StudyOutcome(found, split, excluded, leakage, to_longer, tuple(arm_costs(record)))


def _pairable(
    done: Sequence[StudyRun], stored: Mapping[str, Stored]
) -> tuple[list[StudyRun], tuple[tuple[str, str], ...]]:
    """Return the runs that were measured on the same cases as most, and the others with the reason."""
    if not done:
        return [], ()
    measured = {run.folder: (run.split, tuple(sorted(stored[run.folder].table.cases))) for run in done}
    usual = Counter(measured.values()).most_common(1)[0][0]
    first = next(run for run in done if measured[run.folder] == usual)
    usable, excluded = [], []
    for run in done:
        tables: list[Any] = [stored[one.folder].table for one in (first, run)]
        faults = pairing_faults((first.title, run.title), tables)
        if run.split != first.split:
            faults.insert(0, f"it was measured on the {run.split} split, and {first.title} on {first.split}")
        faults += [f"{case} could not be measured" for case in stored[run.folder].failed if faults]
        if faults:
            excluded.append((run.title, "; ".join(faults)))
        else:
            usable.append(run)
    return usable, tuple(excluded)


def _leakage(usable: Sequence[StudyRun], stored: Mapping[str, Stored]) -> tuple[tuple[str, str], ...]:
    """Return what evaluations recorded of cases that were in the training, once for each arm."""
    found: dict[tuple[str, str], None] = {}
    for run in usable:
        recorded = stored[run.folder].leakage or {}
        if recorded.get("found") or recorded.get("unknown_weights"):
            found |= {(run.arm, sentence): None for sentence in recorded.get("sentences", ())}
    return tuple(found)


def require_complete(record: StudyRecord, outcome: StudyOutcome) -> None:
    """Raise an error that names all that is not part of the outcome.

    Raises:
        VocoError: runs that failed, or that cannot be paired.
    """
    failed = [(run.title, run.reason or "") for run in record.in_order() if run.status == "failed"]
    left_out = [*failed, *outcome.excluded]
    if left_out:
        lines = "\n".join(f"  {title}: {reason}" for title, reason in left_out)
        raise VocoError(
            f"{len(left_out)} of {len(record.runs)} runs are not part of the outcome:\n{lines}",
            "the same command tries the failed ones again",
        )


def publish(folder: Path, record: StudyRecord, outcome: StudyOutcome) -> list[Path]:
    """Write study.json, and the table and picture of what is finished.

    Raises:
        ResourceError: the disk is full.
    """
    written = [write_record(folder, record, outcome_object(record, outcome))]
    if outcome.found is not None:
        write_atomic(folder / TABLE, visible(study_markdown(record, outcome, outcome.found)).encode())
        write_atomic(folder / PICTURE, draw_label_efficiency(outcome.found))
        written += [folder / TABLE, folder / PICTURE]
    return written


def outcome_object(record: StudyRecord, outcome: StudyOutcome) -> dict[str, Any]:
    """Return what the finished runs say, as JSON holds it; NaN becomes null."""
    found = outcome.found
    held: dict[str, Any] = {
        "metric": METRICS[record.settings["task.kind"]].key,
        "measured_on": None,
        "scores": [],
        "differences": [],
        "differences_by_structure": [],
        "excluded": [{"run": run, "reason": reason} for run, reason in outcome.excluded],
        f"differences_to_{LONGER}": [gain_object(one) for one in outcome.to_longer],
        "costs": [asdict(one) for one in outcome.costs],
        "conclusions": [],
        "statements": statements(record, outcome),
    }
    if found is not None:
        held["measured_on"] = {"split": outcome.split, "cases": found.cases, "patients": found.patients}
        held["scores"] = [asdict(one) for one in found.scores]
        held["differences"] = [gain_object(one) for one in found.gains]
        held["differences_by_structure"] = [gain_object(one) for one in found.by_structure]
        held["conclusions"] = conclusions(outcome)
    return dict(without_nan(held))


def study_markdown(record: StudyRecord, outcome: StudyOutcome, found: LabelEfficiency) -> str:
    """Return tables ready for a paper, and what they mean."""
    task = record.settings.get("task.title") or record.settings.get("task.name") or record.task
    parts = [
        f"# Label efficiency: {task}\n",
        f"![{found.text.metric} by number of labelled cases]({PICTURE})\n",
        markdown(study_headings(found), study_rows(found)),
    ]
    if found.gains:
        parts += [f"{sentence}  " for sentence in conclusions(outcome)]
        largest = "; ".join(dict.fromkeys(f"{one.run} with {one.labelled}" for one in found.by_structure))
        parts += [f"\n## By {found.text.part}, with the most labelled cases ({largest})\n"]
        parts += [markdown(structure_headings(found), structure_rows(found))]
    if any(one.pretraining_s is not None for one in outcome.costs):
        parts += [
            "## What each cost\n",
            markdown(COST_HEADINGS, cost_rows(outcome.costs)),
            cost_note(outcome.costs),
            "",
        ]
    parts += ["## Every seed\n", markdown(seed_headings(found), seed_rows(found))]
    parts += ["## How to read this\n", *(f"- {line}" for line in statements(record, outcome))]
    return "\n".join(parts) + "\n"


def study_headings(found: LabelEfficiency) -> list[str]:
    """Return the headings of `study_rows`."""
    return [
        *("labelled cases", "weights", "seeds", f"{found.text.metric} ± sd over seeds [95 %]"),
        f"difference to {found.baseline} [95 %]",
        *("[these runs]", "cases better", "seeds better", "p", "p (Holm)", "effect", "shown"),
    ]


def study_rows(found: LabelEfficiency) -> list[list[str]]:
    """Return a row for each number of labelled cases and arm, its difference beside its score."""
    gains = {(one.labelled, one.run): one for one in found.gains}
    rows = []
    for size in found.sizes:
        for score in sorted(
            (one for one in found.scores if one.labelled == size), key=lambda one: found.arms.index(one.arm)
        ):
            gain = gains.get((size, score.arm))
            cells = _gain_cells(gain) if gain is not None else [NONE] * 8
            rows.append([str(size), score.arm, str(len(score.seeds)), _score_cell(score), *cells])
    return rows


def structure_headings(found: LabelEfficiency) -> list[str]:
    """Return the headings of `structure_rows`."""
    several = len({one.run for one in found.by_structure}) > 1
    difference = f"difference to {found.baseline} [95 %]"
    own = "run's" if several else found.by_structure[0].run
    return [*(["weights"] if several else []), found.text.part, found.baseline, own, difference, "p (Holm)", "shown"]


def structure_rows(found: LabelEfficiency) -> list[list[str]]:
    """Return a row for each arm and structure."""
    several = len({one.run for one in found.by_structure}) > 1
    return [
        [
            *([one.run] if several else []),
            str(one.part),
            figure(one.first),
            figure(one.value),
            with_interval(one.difference, one.low, one.high, sign=True),
            p_value(one.p_holm),
            SHOWN[verdict(one)],
        ]
        for one in found.by_structure
    ]


def seed_headings(found: LabelEfficiency) -> list[str]:
    """Return the headings of `seed_rows`."""
    return ["labelled cases", "weights", *(f"seed {seed}" for seed in _seeds(found))]


def seed_rows(found: LabelEfficiency) -> list[list[str]]:
    """Return the score of every single run."""
    rows = []
    for one in found.scores:
        of_seed = dict(zip(one.seeds, one.seed_means, strict=True))
        cells = [figure(of_seed.get(seed, math.nan)) for seed in _seeds(found)]
        rows.append([str(one.labelled), one.arm, *cells])
    return rows


def conclusions(outcome: StudyOutcome) -> list[str]:
    """Return what follows from each difference: from scratch first, then from scratch with the same time."""
    found = outcome.found
    if found is None:
        return []
    pairs = [(one, found.baseline) for one in found.gains] + [(one, LONGER) for one in outcome.to_longer]
    return [conclusion(one, baseline) for one, baseline in pairs]


def conclusion(one: Difference, baseline: str) -> str:
    """Return what follows from a difference, one sentence."""
    cases = f"{one.labelled} labelled case{'s' if one.labelled > 1 else ''}"
    difference = with_interval(one.difference, one.low, one.high, sign=True)
    shown = verdict(one)
    if shown == "one seed only":
        return f"{cases}: {one.run} minus {baseline} is {difference} with one seed, which says nothing of other seeds."
    if shown == "no difference shown":
        outside = one.low > 0 or one.high < 0
        why = f", p (Holm) {p_value(one.p_holm)} of {one.patients} patients" if outside else ""
        return f"{cases}: no difference shown between {one.run} and {baseline} ({difference}{why})."
    return f"{cases}: {one.run} is {shown} than {baseline} ({difference})."


def statements(record: StudyRecord, outcome: StudyOutcome) -> list[str]:
    """Return what the tables must say of themselves, one line each."""
    found, lines = outcome.found, []
    if found is not None:
        lines += [_measured_text(record, outcome, found), *_frozen_text(record, found), *_method_text(record, found)]
    failed = [run for run in record.in_order() if run.status == "failed"]
    waiting = sum(run.status in ("waiting", "started", "interrupted") for run in record.runs.values())
    lines += [f"Failed: {run.title}: {run.reason}" for run in failed]
    lines += [f"Left out: {run}: {reason}." for run, reason in outcome.excluded]
    lines += [f"{arm}: {sentence}" for arm, sentence in outcome.leakage]
    if waiting:
        lines.append(f"{waiting} of {len(record.runs)} runs are not finished: this is an early look.")
    return lines


def _measured_text(record: StudyRecord, outcome: StudyOutcome, found: LabelEfficiency) -> str:
    words = (
        f"Measured on the {found.cases} {outcome.split} cases of {found.patients} patients ({record.split}), "
        f"{found.text.score}. "
    )
    if record.settings["task.choose"] == "last":
        return words + "The weights are those of the last step: labels of validation cases chose nothing."
    chosen = words + "The weights are the best on the validation cases, whose labels were used beyond those counted"
    return chosen + (", and which are measured on: too high a figure." if outcome.split == "validation" else ".")


def _frozen_text(record: StudyRecord, found: LabelEfficiency) -> list[str]:
    """Return the warning that arms differ in more than their weights, where they do."""
    frozen = [arm for arm in found.arms if arm != BASELINE]
    if not record.settings["task.freeze_encoder"] or not frozen:
        return []
    return [
        f"The encoder of {', '.join(frozen)} stays as it is loaded (task.freeze_encoder), and {BASELINE} trains its "
        "own, which would stay random: the differences are of both, the weights and what moves."
    ]


def _method_text(record: StudyRecord, found: LabelEfficiency) -> list[str]:
    resamples = record.settings.get("evaluate.resamples", RESAMPLES)
    text = found.text
    but = f", which {LONGER} gets too" if LONGER in found.arms else ""
    return [
        "A seed draws the labelled cases (the smaller set is part of the larger), the fresh weights and the order; "
        f"runs of one seed and size are paired. Difference: weights - {found.baseline}, {text.paired}.",
        f"[95 %]: bootstrap interval, {resamples} resamples of patients and of seeds; [these runs]: of patients alone, "
        f"which says nothing of other seeds. Cases better: {text.better}.",
        f"p: {text.test}; Holm's correction over sizes and weights, or over {text.parts} and weights; effect: "
        f"matched-pairs rank-biserial correlation{text.effect}.",
        f"A difference is shown where [95 %] leaves out 0 and p (Holm) is below {SIGNIFICANT:g}.{_seed_text(found)}",
        f"Equal are the steps of fine-tuning; the time of pre-training comes on top{but}.",
    ]


def _seed_text(found: LabelEfficiency) -> str:
    """Return a warning of how little a few seeds say."""
    fewest = min((len(one.seeds) for one in found.gains), default=ENOUGH_SEEDS)
    if not 1 < fewest < ENOUGH_SEEDS:
        return ""
    return (
        f" With {fewest} seeds the interval is too narrow where seeds differ more than cases, and all seeds agree by "
        f"chance in {2.0 ** (1 - fewest):.0%} of studies without any effect: {ENOUGH_SEEDS} seeds or more can tell."
    )


def _gain_cells(one: Difference) -> list[str]:
    return [
        with_interval(one.difference, one.low, one.high, sign=True),
        interval(one.runs_low, one.runs_high, sign=True) or NONE,
        f"{one.better} of {one.cases}",
        f"{one.seeds_better} of {len(one.seeds)}",
        p_value(one.p),
        p_value(one.p_holm),
        NONE if math.isnan(one.effect) else f"{one.effect:+.2f}",
        SHOWN[verdict(one)],
    ]


def _score_cell(one: ArmScore) -> str:
    deviation = "" if math.isnan(one.sd) else f" ± {figure(one.sd)}"
    return f"{figure(one.mean)}{deviation} {interval(one.low, one.high)}".rstrip()


def _seeds(found: LabelEfficiency) -> Sequence[int]:
    return sorted({seed for one in found.scores for seed in one.seeds})
