"""What a study runs: arms x numbers of labelled cases x seeds, and the settings of each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.config import Resolved, Settings, load_settings
from voco_cli.config.stages import objective_flags
from voco_cli.errors import UsageError
from voco_cli.study.arms import LONGER, PRETRAINING, Arm, make_arms

VARYING = ("run.dir", "seed", "task.cases", "model.weights")
"""Settings that tell the runs of a study apart, and that nobody else may set."""
RECIPE_FILE = f"{PRETRAINING}.yaml"
"""What the pre-trainings of a study share."""


def run_title(arm: str, labelled: int, seed: int) -> str:
    """Return the name of a run for people."""
    return f"{arm}, {labelled} labelled case{'s' if labelled > 1 else ''}, seed {seed}"


@dataclass(frozen=True)
class PlannedRun:
    """One fine-tuning run."""

    arm: Arm
    labelled: int
    seed: int

    @property
    def place(self) -> Path:
        """Return its folder, from the study's."""
        return Path(self.arm.folder) / f"n{self.labelled:03d}-seed{self.seed}"

    @property
    def title(self) -> str:
        """Return its name for people."""
        return run_title(self.arm.name, self.labelled, self.seed)


@dataclass(frozen=True)
class PretrainingPlan:
    """What is asked of the pre-trainings of a study.

    Attributes:
        minutes: of training that each gets, all stages together; None where steps are given.
        steps: optimizer steps that each gets, all stages together.
        recipe: that optimizer and augmentation are taken from.
        config: file of settings that go before those of the recipe and the task.
    """

    minutes: float | None = 30.0
    steps: int | None = None
    recipe: str = "debug"
    config: Path | None = None


@dataclass(frozen=True)
class StudyPlan:
    """What is asked of a study.

    Attributes:
        folder: of the study.
        task: preset or YAML file.
        arms: the baseline first.
        sizes: numbers of labelled cases, ascending.
        seeds: of pre-trainings, subsets, fresh weights and order.
        config, overrides, flags: settings that all fine-tuning runs share, as `load_settings` takes them.
        pretraining: of the arms with an objective.
    """

    folder: Path
    task: str
    arms: tuple[Arm, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    flags: Mapping[str, Any] | None = None
    pretraining: PretrainingPlan = PretrainingPlan()

    def runs(self) -> list[PlannedRun]:
        """Return all runs, seed by seed with arms interleaved, so that whatever is finished is balanced.

        The arm that gets the time of the pre-trainings comes last in its seed, when that time is known.
        """
        ordered = [PlannedRun(arm, n, seed) for seed in self.seeds for n in self.sizes for arm in self.arms]
        return sorted(ordered, key=lambda run: (run.seed, run.arm.name == LONGER))

    def units(self) -> dict[tuple[object, ...], list[PlannedRun]]:
        """Return runs that one process must do in their order, the longest units first.

        Runs of one arm and seed share a pre-training; the arm that gets the time of the pre-trainings needs to know
        those of its seed, and the runs from scratch. All others stand alone.
        """
        found: dict[tuple[object, ...], list[PlannedRun]] = {}
        for run in self.runs():
            of_seed, alone = any(arm.name == LONGER for arm in self.arms), run.arm.objective is None
            unit = (run.seed,) if of_seed else (run.seed, run.arm.name, run.labelled if alone else None)
            found.setdefault(unit, []).append(run)
        return dict(sorted(found.items(), key=lambda one: one[1][0].arm.objective is None))

    @property
    def pretrained(self) -> list[Arm]:
        """Return the arms that the study pre-trains itself."""
        return [arm for arm in self.arms if arm.objective is not None]

    def pretraining_folder(self, arm: Arm, seed: int) -> Path:
        """Return the run folder of a pre-training."""
        return self.folder / PRETRAINING / f"{arm.folder}-seed{seed}"

    def settings_of(
        self, run: PlannedRun, cases: Path | None = None, cache: Path | None = None, steps: int | None = None
    ) -> Resolved:
        """Return the settings of a fine-tuning run.

        Args:
            cases: list that all runs share, in place of the split of the task.
            cache: folder that all runs share.
            steps: in place of those that all other runs have.
        Raises:
            UsageError: settings that are wrong, or that belong to the study.
        """
        weights = run.arm.weights
        if run.arm.objective is not None:
            weights = str(self.pretraining_folder(run.arm, run.seed))
        own = {
            "run.dir": self.folder / run.place,
            "seed": run.seed,
            "task.cases": run.labelled,
            "model.weights": weights,
        }
        flags = {**(self.flags or {}), **own}
        overrides = self.overrides
        if weights is None and not all(arm.is_fresh for arm in self.arms):
            # A fresh encoder that is frozen would stay random; the tables say that this arm trains its own.
            overrides = (*overrides, "task.freeze_encoder=false")
        if cases is not None:
            # Stronger than what the user has set; the list has its own split.
            places = (f"{key}={json.dumps(str(path))}" for key, path in (("data.file", cases), ("cache.dir", cache)))
            overrides = (*overrides, *places, "task.split=null")
        if steps is not None:
            overrides = (*overrides, f"train.steps={steps}")
            flags.pop("train.steps", None)
        resolved = load_settings(None, self.config, overrides, flags, task=self.task)
        settings = resolved.settings
        found = (settings.run.dir, settings.seed, settings.task.cases, settings.model.weights)
        for key, value, wanted in zip(VARYING, found, own.values(), strict=True):
            if value != wanted:
                raise UsageError(
                    f"{key} is set to {value} by {resolved.sources[key]}, and a study sets it for each run itself.",
                    "give --weights, --objective, --cases and --seeds instead",
                )
        return resolved

    def shared_settings(self) -> Settings:
        """Return what its fine-tuning runs have in common, as those from weights have it.

        Raises:
            UsageError: settings of any arm that are wrong, or that belong to the study.
        """
        of_arms = [self.settings_of(PlannedRun(arm, self.sizes[0], self.seeds[0])) for arm in self.arms]
        weighted = [one.settings for one in of_arms if one.settings.model.weights is not None]
        return (weighted or [of_arms[-1].settings])[-1]

    def pretraining_settings(self, arm: Arm, seed: int, cache: Path, steps: Sequence[int] = ()) -> Resolved:
        """Return the settings of a pre-training, whose recipe must be there.

        Args:
            cache: folder that all runs share.
            steps: of each stage; none leaves those of the recipe.
        Raises:
            UsageError: settings that are wrong.
        """
        flags = {
            "run.dir": self.pretraining_folder(arm, seed),
            "data.file": self.folder / PRETRAINING / "data.json",
            "cache.dir": cache,
            "seed": seed,
            "run.device": (self.flags or {}).get("run.device"),
            **objective_flags(arm.objective),
        }
        if len(steps) == 1:
            flags |= {f"train.{key}": value for key, value in _train(steps[0]).items()}
        elif steps:
            stages = zip(flags["stages"], steps, strict=True)
            flags["stages"] = [{**stage, "train": _train(number)} for stage, number in stages]
        return load_settings(str(self.folder / RECIPE_FILE), self.pretraining.config, (), flags)


def _train(steps: int) -> dict[str, int]:
    """Return settings of ``train`` for so many steps: four validations and checkpoints, which cost no step."""
    quarter = max(1, steps // 4)
    return {"steps": steps, "validate_every": quarter, "checkpoint_every": quarter}


def make_plan(
    folder: Path,
    task: str,
    weights: Sequence[str],
    sizes: Sequence[int],
    seeds: int,
    *,
    objectives: Sequence[str] = (),
    pretraining: PretrainingPlan | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    known: Mapping[str, str | None] | None = None,
) -> StudyPlan:
    """Make a plan from what a user asks for; fresh weights are always among the arms.

    Args:
        weights, objectives, known: as for `make_arms`.
        sizes: numbers of labelled cases.
        seeds: how many; they are 0, 1, ...
    Raises:
        UsageError: no number of cases, or none that can be; arms that make no sense.
    """
    if not sizes or min(sizes) < 1:
        raise UsageError("A study needs numbers of labelled cases of at least 1.", "for example --cases 5,10,20")
    if seeds < 1:
        raise UsageError("A study needs one seed at least.", "for example --seeds 3")
    return StudyPlan(
        folder,
        task,
        make_arms(weights, objectives, known),
        tuple(sorted(set(sizes))),
        tuple(range(seeds)),
        config,
        tuple(overrides),
        flags,
        pretraining or PretrainingPlan(),
    )
