"""A study as text: study.json, the tables of study.md, and what follows in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import write_atomic
from voco_cli.errors import VocoError
from voco_cli.evaluate.read_results import Stored, read_stored
from voco_cli.evaluate.segmentation.results import NONE, markdown, p_value, without_nan
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.figures.label_efficiency import draw_label_efficiency
from voco_cli.foreign_text import visible
from voco_cli.study.analysis import SIGNIFICANT, ArmScore, Gain, LabelEfficiency, ScoredRun, Verdict, label_efficiency
from voco_cli.study.metrics import StudyMetric, metric_of
from voco_cli.study.plan import BASELINE, RunRecord, StudyRecord, write_record


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
        recorded = stored[run.folder].leakage or {}
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


def publish(folder: Path, record: StudyRecord, outcome: Outcome) -> list[Path]:
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


def outcome_object(record: StudyRecord, outcome: Outcome) -> dict[str, Any]:
    """What the finished runs say, as JSON holds it; NaN becomes null."""
    found = outcome.found
    held: dict[str, Any] = {
        "metric": metric_of(record.settings).name,
        "measured_on": None,
        "scores": [],
        "differences": [],
        "differences_by_structure": [],
        "excluded": [{"run": run, "reason": reason} for run, reason in outcome.excluded],
        "conclusions": [],
        "statements": statements(record, outcome),
    }
    if found is not None:
        held["measured_on"] = {"split": outcome.split, "cases": found.cases, "patients": found.patients}
        held["scores"] = [asdict(one) for one in found.scores]
        held["differences"] = [_gain_object(one) for one in found.gains]
        held["differences_by_structure"] = [_gain_object(one) for one in found.by_structure]
        held["conclusions"] = [conclusion(one, found.baseline) for one in found.gains]
    return dict(without_nan(held))


def study_markdown(record: StudyRecord, outcome: Outcome, found: LabelEfficiency) -> str:
    """Tables ready for a paper, and what they mean."""
    task = record.settings.get("task.title") or record.settings.get("task.name") or record.task
    parts = [
        f"# Label efficiency: {task}\n",
        f"![{found.words.metric} by number of labelled cases]({PICTURE})\n",
        markdown(study_headings(found), study_rows(found)),
    ]
    if found.gains:
        parts += [f"{conclusion(one, found.baseline)}  " for one in found.gains]
        largest = "; ".join(dict.fromkeys(f"{one.arm} with {one.labelled}" for one in found.by_structure))
        parts += [f"\n## By {found.words.part}, with the most labelled cases ({largest})\n"]
        parts += [markdown(structure_headings(found), structure_rows(found))]
    parts += ["## Every seed\n", markdown(seed_headings(found), seed_rows(found))]
    parts += ["## How to read this\n", *(f"- {line}" for line in statements(record, outcome))]
    return "\n".join(parts) + "\n"


def study_headings(found: LabelEfficiency) -> list[str]:
    """Headings of `study_rows`."""
    return [
        *("labelled cases", "weights", "seeds", f"{found.words.metric} ± sd over seeds [95 %]"),
        f"difference to {found.baseline} [95 %]",
        *("[these runs]", "cases better", "seeds better", "p", "p (Holm)", "effect", "shown"),
    ]


def study_rows(found: LabelEfficiency) -> list[list[str]]:
    """A row for each number of labelled cases and arm, its difference beside its score."""
    gains = {(one.labelled, one.arm): one for one in found.gains}
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
    """Headings of `structure_rows`."""
    several = len({one.arm for one in found.by_structure}) > 1
    difference = f"difference to {found.baseline} [95 %]"
    own = "run's" if several else found.by_structure[0].arm
    return [*(["weights"] if several else []), found.words.part, found.baseline, own, difference, "p (Holm)", "shown"]


def structure_rows(found: LabelEfficiency) -> list[list[str]]:
    """A row for each arm and structure."""
    several = len({one.arm for one in found.by_structure}) > 1
    return [
        [
            *([one.arm] if several else []),
            str(one.structure),
            _number(one.baseline_mean),
            _number(one.mean),
            _with_interval(one.difference, one.low, one.high, sign=True),
            p_value(one.p_holm),
            SHOWN[one.verdict],
        ]
        for one in found.by_structure
    ]


def seed_headings(found: LabelEfficiency) -> list[str]:
    """Headings of `seed_rows`."""
    return ["labelled cases", "weights", *(f"seed {seed}" for seed in _seeds(found))]


def seed_rows(found: LabelEfficiency) -> list[list[str]]:
    """The score of every single run."""
    rows = []
    for one in found.scores:
        of_seed = dict(zip(one.seeds, one.seed_means, strict=True))
        cells = [_number(of_seed.get(seed, math.nan)) for seed in _seeds(found)]
        rows.append([str(one.labelled), one.arm, *cells])
    return rows


def conclusion(one: Gain, baseline: str) -> str:
    """What follows of a difference, one sentence."""
    cases = f"{one.labelled} labelled case{'s' if one.labelled > 1 else ''}"
    figure = _with_interval(one.difference, one.low, one.high, sign=True)
    if one.verdict == "one seed only":
        return f"{cases}: {one.arm} minus {baseline} is {figure} with one seed, which says nothing of other seeds."
    if one.verdict == "no difference shown":
        outside = one.low > 0 or one.high < 0
        why = f", p (Holm) {p_value(one.p_holm)} of {one.patients} patients" if outside else ""
        return f"{cases}: no difference shown between {one.arm} and {baseline} ({figure}{why})."
    return f"{cases}: {one.arm} is {one.verdict} than {baseline} ({figure})."


def statements(record: StudyRecord, outcome: Outcome) -> list[str]:
    """What the tables must say of themselves, one line each."""
    found, lines = outcome.found, []
    if found is not None:
        lines += [_measured_words(record, outcome, found), *_frozen_words(record, found), *_method_words(record, found)]
    failed = [run for run in record.in_order() if run.status == "failed"]
    waiting = sum(run.status in ("waiting", "started", "interrupted") for run in record.runs.values())
    lines += [f"Failed: {run.words}: {run.reason}" for run in failed]
    lines += [f"Left out: {run}: {reason}." for run, reason in outcome.excluded]
    lines += [f"{arm}: {sentence}" for arm, sentence in outcome.seen]
    if waiting:
        lines.append(f"{waiting} of {len(record.runs)} runs are not finished: this is an early look.")
    return lines


def _measured_words(record: StudyRecord, outcome: Outcome, found: LabelEfficiency) -> str:
    words = (
        f"Measured on the {found.cases} {outcome.split} cases of {found.patients} patients ({record.split}), "
        f"{found.words.score}. "
    )
    if record.settings["task.choose"] == "last":
        return words + "The weights are those of the last step: labels of validation cases chose nothing."
    chosen = words + "The weights are the best on the validation cases, whose labels were used beyond those counted"
    return chosen + (", and which are measured on: too high a figure." if outcome.split == "validation" else ".")


def _frozen_words(record: StudyRecord, found: LabelEfficiency) -> list[str]:
    """Where arms differ in more than their weights, that is said."""
    frozen = [arm for arm in found.arms if arm != BASELINE]
    if not record.settings["task.freeze_encoder"] or not frozen:
        return []
    return [
        f"The encoder of {', '.join(frozen)} stays as it is loaded (task.freeze_encoder), and {BASELINE} trains its "
        "own, which would stay random: the differences are of both, the weights and what moves."
    ]


def _method_words(record: StudyRecord, found: LabelEfficiency) -> list[str]:
    resamples = record.settings.get("evaluate.resamples", RESAMPLES)
    words = found.words
    return [
        "A seed draws the labelled cases (the smaller set is part of the larger), the fresh weights and the order; "
        f"runs of one seed and size are paired. Difference: weights - {found.baseline}, {words.paired}.",
        f"[95 %]: bootstrap interval, {resamples} resamples of patients and of seeds; [these runs]: of patients alone, "
        f"which says nothing of other seeds. Cases better: {words.better}.",
        f"p: {words.test}; Holm's correction over sizes and weights, or over {words.parts} and weights; effect: "
        f"matched-pairs rank-biserial correlation{words.effect}.",
        f"A difference is shown where [95 %] leaves out 0 and p (Holm) is below {SIGNIFICANT:g}.{_seed_words(found)}",
        "Equal are the steps of fine-tuning; the time of pre-training comes on top.",
    ]


def _seed_words(found: LabelEfficiency) -> str:
    """How little few seeds say."""
    fewest = min((len(one.seeds) for one in found.gains), default=ENOUGH_SEEDS)
    if not 1 < fewest < ENOUGH_SEEDS:
        return ""
    return (
        f" With {fewest} seeds the interval is too narrow where seeds differ more than cases, and all seeds agree by "
        f"chance in {2.0 ** (1 - fewest):.0%} of studies without any effect: {ENOUGH_SEEDS} seeds or more can tell."
    )


def _gain_object(one: Gain) -> dict[str, Any]:
    return {**asdict(one), "seeds_better": one.seeds_better, "shown": one.verdict}


def _gain_cells(one: Gain) -> list[str]:
    return [
        _with_interval(one.difference, one.low, one.high, sign=True),
        _interval(one.runs_low, one.runs_high, sign=True) or NONE,
        f"{one.better} of {one.cases}",
        f"{one.seeds_better} of {len(one.seeds)}",
        p_value(one.p),
        p_value(one.p_holm),
        NONE if math.isnan(one.effect) else f"{one.effect:+.2f}",
        SHOWN[one.verdict],
    ]


def _score_cell(one: ArmScore) -> str:
    deviation = "" if math.isnan(one.sd) else f" ± {_number(one.sd)}"
    return f"{_number(one.mean)}{deviation} {_interval(one.low, one.high)}".rstrip()


def _with_interval(value: float, low: float, high: float, sign: bool = False) -> str:
    return f"{_number(value, sign)} {_interval(low, high, sign)}".rstrip()


def _interval(low: float, high: float, sign: bool = False) -> str:
    return "" if math.isnan(low) else f"[{_number(low, sign)}, {_number(high, sign)}]"


def _number(value: float, sign: bool = False) -> str:
    return NONE if math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"


def _seeds(found: LabelEfficiency) -> Sequence[int]:
    return sorted({seed for one in found.scores for seed in one.seeds})
