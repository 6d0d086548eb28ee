"""`voco study` without its command line: one run after the other, and the outcome of all that are finished."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from voco_cli.config import Resolved, Settings
from voco_cli.data.parallel import HERE, Runner, run_jobs
from voco_cli.data.shards import digest_of
from voco_cli.errors import DataError, Interrupted, UsageError, VocoError
from voco_cli.evaluate.metric import Metric
from voco_cli.evaluate.read_results import read_results
from voco_cli.finetune import starting_weights
from voco_cli.study.analysis import METRICS
from voco_cli.study.arms import BASELINE, LONGER
from voco_cli.study.cases import case_contents, find_cases, fix_cases, require_categories, shared_cache
from voco_cli.study.plan import RECIPE_FILE, PlannedRun, StudyPlan
from voco_cli.study.record import CASES, PretrainingRecord, StudyRecord, StudyRun, open_record, read_record
from voco_cli.tasks.find_data import TaskData, find_task_data
from voco_cli.training.callbacks import Callback
from voco_cli.training.loggers import train_seconds
from voco_cli.training.run_dir import RunFolder
from voco_cli.workflows.study_outcome import StudyOutcome, gather, publish
from voco_cli.workflows.study_pretrain import Pretrain, StudyPretraining, longer_steps


class Finetuned(Protocol):
    """What a study needs to know of a fine-tuning run that has ended."""

    @property
    def evaluation(self) -> Path | None:
        """Return the folder of the evaluation of the split that was measured; none where nothing is labelled."""

    @property
    def evaluated_split(self) -> str | None:
        """Return test, validation, or none."""

    @property
    def chosen_step(self) -> int:
        """Return the step of the weights that were measured."""

    @property
    def how_chosen(self) -> str:
        """Return how that step was chosen, one sentence."""


@dataclass(frozen=True)
class StudyResult:
    """How a study ended.

    Attributes:
        record: every run.
        outcome: what they say.
        wrote: the files.
    """

    record: StudyRecord
    outcome: StudyOutcome
    wrote: tuple[Path, ...]


def run_study(
    plan: StudyPlan,
    callback: Callback,
    *,
    finetune: Callable[[Resolved], Finetuned],
    pretrain: Pretrain | None = None,
    find: Callable[[Settings], TaskData] = find_task_data,
    runner: Runner = HERE,
    own: Collection[PlannedRun] | None = None,
) -> StudyResult:
    """Run what is not finished of a plan, and publish the outcome after each run.

    A run that fails for its data or a loss that is not finite is recorded, and the others go on.

    Args:
        finetune: trains and measures one network; the same settings resume a run.
        pretrain: trains one encoder, where arms ask for that; the same settings resume a run.
        find: finds and splits the data of the task.
        runner: knows the runs of all shards when they are merged; a shard does its own, and publishes nothing.
        own: runs of a shard; none is all.
    Raises:
        UsageError: the plan does not fit the folder, or a run its task; a shard of what was not prepared.
        DataError: weights that do not exist; no run has come to its end.
        ResourceError: disk.
        Interrupted: a signal; the same call goes on.
    """
    with _opened(plan, callback, pretrain, find, runner) as study:
        record, runs = study.record, [run for run in plan.runs() if own is None or run in own]
        waiting = [run for run in runs if not _is_finished(plan.folder, record.of(run))]
        callback.planned(len(runs), len(runs) - len(waiting), study.data)

        def do_run(job: RunJob) -> RunOutcome:
            callback.run_started(job.run, len(runs) - len(waiting) + waiting.index(job.run) + 1, len(runs))
            _run_one(study, job.run, finetune)
            return RunOutcome(record.of(job.run), record.pretrainings.get((job.run.arm.name, job.run.seed)))

        def finished(job: RunJob, outcome: RunOutcome | Exception) -> None:
            if isinstance(outcome, Exception):
                raise outcome
            record.update(outcome.run)
            if outcome.pretraining is not None:
                record.pretrainings[job.run.arm.name, job.run.seed] = outcome.pretraining
            if runner.outcomes is None:
                study.publish()
            callback.run_ended(outcome.run, _left_s(record, len(waiting) - waiting.index(job.run) - 1))

        run_jobs(do_run, [RunJob(run, plan.folder) for run in waiting], 1, finished, runner=runner)
        result = study.publish()
    if result.outcome.found is None and not runner.is_part:
        reasons = "; ".join(dict.fromkeys(run.reason for run in record.runs.values() if run.reason))
        raise DataError(f"No run of {plan.folder} has come to its end: {reasons or 'none has begun'}")
    return result


def prepare_study(
    plan: StudyPlan,
    callback: Callback,
    *,
    pretrain: Pretrain | None = None,
    find: Callable[[Settings], TaskData] = find_task_data,
) -> StudyResult:
    """Do what shards of a study need to have in common: its cases, and how long steps of its pre-trainings take.

    Raises:
        as `run_study`, before its runs.
    """
    with _opened(plan, callback, pretrain, find, HERE) as study:
        return study.publish()


@dataclass(frozen=True)
class RunJob:
    """A run that is to be done."""

    run: PlannedRun
    study: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the file that tells whether a run was touched since."""
        return (RunFolder(self.study / self.run.place).state_file,)


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, and the pre-training that it started from, where the study has one."""

    run: StudyRun
    pretraining: PretrainingRecord | None


@dataclass(frozen=True)
class _Study:
    """A study that is being run.

    Attributes:
        cases, cache: list and folder that all runs share.
        is_part: the others do the rest, and nothing is published.
    """

    plan: StudyPlan
    record: StudyRecord
    data: TaskData
    cases: Path
    cache: Path
    pretraining: StudyPretraining | None
    is_part: bool

    def publish(self) -> StudyResult:
        """Write what is known, unless this is a shard."""
        if self.is_part:
            return StudyResult(self.record, StudyOutcome(None), ())
        return _publish(self.plan, self.record)


@contextmanager
def _opened(
    plan: StudyPlan,
    callback: Callback,
    pretrain: Pretrain | None,
    find: Callable[[Settings], TaskData],
    runner: Runner,
) -> Iterator[_Study]:
    """Open the folder of a study, with all that its runs share; a shard finds that there, and writes none of it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("A study runs in one process.", "start voco study without torchrun or accelerate launch")
    is_part = runner.is_part
    if is_part:
        _require_prepared(plan)
    with nullcontext() if is_part else RunFolder(plan.folder).lock():
        settings = plan.shared_settings()
        record = open_record(plan, settings)
        data = find_cases(plan.folder, settings, plan.sizes[-1], find)
        require_categories(data, settings.task, plan.sizes, plan.seeds)
        contents = case_contents(plan.folder, data.datalist)
        record.split = data.split_words
        cases, cache = plan.folder / CASES, shared_cache(plan.folder, settings)
        pretraining = None
        if pretrain is not None and plan.pretrained:
            pretraining = StudyPretraining(plan, record, cache, pretrain, callback)
        study = _Study(plan, record, data, cases, cache, pretraining, is_part)
        study.publish()  # the first file, by which the folder is known for a study's
        if not is_part:
            fix_cases(plan.folder, data.datalist, contents)
        if pretraining is not None and not is_part:
            first = next(run for run in plan.runs() if run.arm.is_fresh)
            pretraining.prepare(plan.settings_of(first, cases, cache).settings, data.datalist)
        shared = {
            "settings": json.dumps([record.settings, record.pretraining, record.step_s]),
            "weights": json.dumps({arm.name: record.arms[arm.name].sha256 for arm in plan.arms}),
            "cases": digest_of(f"{name} {content}" for name, (_, content) in contents.items()),
        }
        runner.begin({f"{name} of {plan.folder}": value for name, value in shared.items()})
        yield study


def _require_prepared(plan: StudyPlan) -> None:
    held = read_record(plan.folder)
    if held is not None and all(run.place.as_posix() in held.runs for run in plan.runs()):
        timed = plan.pretraining.steps is not None or all(arm.name in held.step_s for arm in plan.pretrained)
        if not plan.pretrained or (timed and (plan.folder / RECIPE_FILE).is_file()):
            return
    raise UsageError(
        f"{plan.folder} is not prepared: its shards share what has to be found out once.",
        "run the same command first with --prepare in place of --shard",
    )


def _run_one(study: _Study, run: PlannedRun, finetune: Callable[[Resolved], Finetuned]) -> None:
    """Run one fine-tuning, and the pre-training before it, and record how it ended."""
    began_s = time.monotonic()
    record, folder = study.record, study.plan.folder
    before = replace(record.of(run), status="started", reason=None)
    record.update(before)
    try:
        if run.arm.name == LONGER and before.steps is None:
            before = replace(before, steps=_longer_steps(record, before))
            record.update(before)
        if study.pretraining is not None and run.arm.objective is not None:
            study.pretraining.run(run.arm, run.seed)
            study.publish()
        result = finetune(study.plan.settings_of(run, study.cases, study.cache, before.steps))
        record.update(_done(folder, before, result, METRICS[record.settings["task.kind"]]))
    except DataError as error:
        record.update(replace(before, status="failed", reason=error.message))
    except (VocoError, KeyboardInterrupt) as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        reason = error.message if isinstance(error, VocoError) else "stopped"
        record.update(replace(before, status="interrupted" if stopped else "failed", reason=reason))
        study.publish()
        raise
    record.update(replace(record.of(run), took_s=round(time.monotonic() - began_s, 1)))


def _longer_steps(record: StudyRecord, run: StudyRun) -> int:
    """Return the steps of a run from scratch that gets the time of its seed's longest pre-training.

    Raises:
        DataError: a run or a pre-training that this time follows from has not come to its end.
    """
    same = (one for one in record.runs.values() if (one.arm, one.cases, one.seed) == (BASELINE, run.cases, run.seed))
    alike = next(same, None)
    spent_s = [one.train_s for one in record.pretrainings.values() if one.seed == run.seed and one.train_s is not None]
    if alike is None or alike.train_s is None or not spent_s:
        raise DataError(f"its time follows from {BASELINE} and pre-trainings of seed {run.seed}, which have failed.")
    return longer_steps(int(record.settings["train.steps"]), alike.train_s, spent_s)


def _done(folder: Path, before: StudyRun, result: Finetuned, metric: Metric[Any]) -> StudyRun:
    if result.evaluation is None:
        raise DataError("no labelled case was there to measure on, neither for test nor for validation.")
    score = metric.score(read_results(result.evaluation).table)
    run = RunFolder(folder / before.folder)
    return replace(
        before,
        status="done",
        evaluation=Path(os.path.relpath(result.evaluation, folder)).as_posix(),
        split=result.evaluated_split,
        score=None if math.isnan(score) else score,
        chosen_step=result.chosen_step,
        how_chosen=result.how_chosen,
        train_s=round(train_seconds(run.metrics_file), 3),
        transferred=_transferred(run),
    )


def _transferred(run: RunFolder) -> str | None:
    """Return which parts of the network came from the weights; None where none did."""
    try:
        parts = json.loads(run.weights_report.read_bytes())["parts"]
    except FileNotFoundError:
        return None
    loaded = [name for name, part in parts.items() if part["loaded"]["tensors"]]
    return "encoder and decoder" if "decoder" in loaded else "encoder"


def _is_finished(folder: Path, run: StudyRun) -> bool:
    """Return True where a run is done and its evaluation is still there."""
    if run.status != "done" or run.evaluation is None:
        return False
    try:
        read_results(folder / run.evaluation)
    except (DataError, UsageError):
        return False
    return True


def _publish(plan: StudyPlan, record: StudyRecord) -> StudyResult:
    """Write what is known; a run whose evaluation is gone waits again."""
    for run in list(record.runs.values()):
        if run.status == "done" and not _is_finished(plan.folder, run):
            record.update(replace(run, status="waiting", reason=None))
    outcome = gather(plan.folder, record)
    return StudyResult(record, outcome, tuple(publish(plan.folder, record, outcome)))


def _left_s(record: StudyRecord, runs: int) -> float:
    """Return the seconds that so many runs will take, from those that were done; NaN where none was."""
    took = [run.took_s for run in record.runs.values() if run.took_s is not None and run.status == "done"]
    return runs * sum(took) / len(took) if took else float("nan")


def require_fitting_weights(plan: StudyPlan) -> None:
    """Refuse weights of another network, which would end a study only after the runs from fresh weights.

    Raises:
        UsageError, DataError: weights that do not exist, are damaged, or do not load into the network of the task.
    """
    for arm in plan.arms:
        if arm.weights is not None:
            starting_weights.require_fitting_weights(
                plan.settings_of(PlannedRun(arm, plan.sizes[0], plan.seeds[0])).settings
            )
