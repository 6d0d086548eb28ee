"""The pre-trainings of a study: scans and settings from the task, steps from a budget, each run to its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Protocol

from voco_cli.config import Resolved, Settings
from voco_cli.config.stages import stage_runs
from voco_cli.data.index.datalist import Datalist
from voco_cli.errors import UsageError
from voco_cli.objectives.objective import Verdict
from voco_cli.study.arms import PRETRAINING, Arm
from voco_cli.study.plan import RECIPE_FILE, StudyPlan
from voco_cli.study.pretraining import equal_steps, prepare_pretraining, steps_within
from voco_cli.study.record import PretrainingRecord, StudyRecord
from voco_cli.tasks.cases import build_cases, open_cache
from voco_cli.training.callbacks import Callback
from voco_cli.training.loggers import read_metrics, train_seconds
from voco_cli.training.run_dir import RunFolder

TRIED_STEPS, UNCOUNTED, ROUNDS = 12, 3, 2
"""Steps of a trial, those at its beginning that do not count, and trials of each stage, the arms in turn."""
TRIAL = ".trial"
LEAST_S = 1e-3
"""What a run is taken to last at least: a clock may show nothing for a few steps."""


class EndedPretraining(Protocol):
    """What a study needs to know of a pre-training that has ended."""

    @property
    def verdict(self) -> Verdict | None:
        """Return what its figures say; none where nothing was held out."""


Pretrain = Callable[[Resolved], EndedPretraining]


@dataclass(frozen=True)
class StudyPretraining:
    """All that pre-trainings of a study need.

    Attributes:
        cache: folder that all runs share.
        pretrain: trains one encoder; the same settings resume a run.
    """

    plan: StudyPlan
    record: StudyRecord
    cache: Path
    pretrain: Pretrain
    callback: Callback

    def prepare(self, settings: Settings, datalist: Datalist) -> None:
        """Preprocess the task's training images, write list and recipe, and find out how long steps take.

        Args:
            settings: of the task, with the cache that all runs share.
            datalist: cases of the task.
        Raises:
            UsageError: settings of an arm that are wrong, scans that are too small.
            DataError: no scan can be used.
        """
        cache = open_cache(settings)
        build_cases(cache, datalist.training, self.callback)
        prepare_pretraining(self.plan.folder, self.plan.pretraining.recipe, settings, datalist, cache)
        stages = {arm.name: self._stages(arm) for arm in self.plan.pretrained}
        if self.plan.pretraining.steps is None:
            self._time_steps({arm: found for arm, found in stages.items() if arm not in self.record.step_s})

    def _stages(self, arm: Arm) -> list[Resolved]:
        """Return the settings of each stage of an arm.

        Raises:
            UsageError: crops that do not suit its objective, for instance.
        """
        try:
            return stage_runs(self.plan.pretraining_settings(arm, self.plan.seeds[0], self.cache))
        except UsageError as error:
            hint = f"--pretrain-config FILE has settings that go before those of {self.plan.folder / RECIPE_FILE}"
            raise UsageError(f"The pre-training {arm.name} cannot run: {error.message}", hint) from error

    def _time_steps(self, stages: dict[str, list[Resolved]]) -> None:
        """Measure a step of each stage of each arm, in turn, so that a busy moment meets all alike."""
        if not stages:
            return
        self.callback.say(f"measuring steps of {', '.join(stages)}, so that each gets the same time")
        took: dict[str, list[list[float]]] = {arm: [[] for _ in found] for arm, found in stages.items()}
        for _ in range(ROUNDS):
            for arm, found in stages.items():
                for number, stage in enumerate(found):
                    took[arm][number] += self._trial(stage)
        self.record.step_s |= {arm: [median(one) for one in of_stages] for arm, of_stages in took.items()}

    def _trial(self, stage: Resolved) -> list[float]:
        """Return the seconds of a few steps of a stage, in a folder that is removed."""
        settings, folder = stage.settings, self.plan.folder / PRETRAINING / TRIAL
        shutil.rmtree(folder, ignore_errors=True)
        every = {"steps": TRIED_STEPS, "validate_every": TRIED_STEPS, "checkpoint_every": TRIED_STEPS, "log_every": 1}
        changed = settings.model_copy(
            update={
                "run": settings.run.model_copy(update={"dir": folder, "loggers": ()}),
                "model": settings.model.model_copy(update={"weights": None}),
                "train": settings.train.model_copy(update=every),
                "stages": (),
            }
        )
        try:
            self.pretrain(replace(stage, settings=changed))
            lines = [one for one in read_metrics(RunFolder(folder).metrics_file) if one["split"] == "train"]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return [float(one["compute_s"]) for one in lines[UNCOUNTED:]]

    def run(self, arm: Arm, seed: int) -> PretrainingRecord:
        """Pre-train an arm for a seed, or go on with it; one that has ended is not run again.

        Raises:
            DataError, ResourceError, Interrupted: as `run_pretraining`.
        """
        folder = self.plan.pretraining_folder(arm, seed)
        known = self.record.pretrainings.get((arm.name, seed)) or self._planned(arm, seed, folder)
        if known.train_s is not None and RunFolder(folder).read_state().get("status") == "done":
            return known
        self.record.pretrainings[arm.name, seed] = known
        resolved = self.plan.pretraining_settings(arm, seed, self.cache, known.steps)
        steps = " + ".join(map(str, known.steps))
        self.callback.say(f"pre-training {arm.name}, seed {seed}: {steps} steps, in {folder}")
        verdict = self.pretrain(resolved).verdict
        files = [RunFolder(stage.settings.run.dir).metrics_file for stage in stage_runs(resolved)]
        done = replace(
            known,
            train_s=round(sum(map(train_seconds, files)), 3),
            verdict=None if verdict is None else verdict.status,
        )
        self.record.pretrainings[arm.name, seed] = done
        return done

    def _planned(self, arm: Arm, seed: int, folder: Path) -> PretrainingRecord:
        place = folder.relative_to(self.plan.folder).as_posix()
        asked, stages = self.plan.pretraining, len(self._stages(arm))
        if asked.steps is not None:
            return PretrainingRecord(arm.name, seed, place, equal_steps(asked.steps, stages))
        step_s = self.record.step_s[arm.name]
        steps = steps_within(60 * (asked.minutes or 0), step_s)
        planned_s = sum(number * one for number, one in zip(steps, step_s, strict=True))
        return PretrainingRecord(arm.name, seed, place, steps, round(planned_s, 1))


def longer_steps(steps: int, train_s: float, spent_s: Sequence[float]) -> int:
    """Return the steps of a run from scratch that also gets the time of a pre-training.

    Args:
        steps: of the other runs.
        train_s: seconds that these take from scratch.
        spent_s: seconds of each pre-training of the same seed; the longest counts.
    """
    return steps + round(steps * max(spent_s) / max(train_s, LEAST_S))
