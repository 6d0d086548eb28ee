"""What a study keeps of itself: every run and pre-training as far as it has come, in study.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.config import Settings
from voco_cli.errors import DataError, UsageError
from voco_cli.study.arms import Arm
from voco_cli.study.plan import VARYING, PlannedRun, StudyPlan, run_title
from voco_cli.training.run_contents import weights_digest
from voco_cli.training.run_dir import FREE_TO_CHANGE, is_file_spelled


def fixed_settings(settings: Settings) -> dict[str, Any]:
    """Return all that must be the same in every run of a study, as JSON holds it: dotted key to value."""
    flat: dict[str, Any] = {}
    for section, value in settings.model_dump(mode="json").items():
        flat |= (
            {f"{section}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {section: value}
        )
    # What leaves the weights as they are may still change the figures: how they are measured stays.
    free = {*VARYING, *(key for key in FREE_TO_CHANGE if not key.startswith("evaluate."))}
    return {key: value for key, value in flat.items() if key not in free}


FORMAT = "voco-study/1"
FILE, CASES = "study.json", "data.json"
Status = Literal["waiting", "started", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class StudyRun:
    """One run, as far as it has come.

    Attributes:
        arm, cases, seed: which run.
        folder, evaluation: from the study's folder.
        split: that it was measured on.
        score: mean over cases of each case's mean Dice over classes; AUC of a classification; none where undefined.
        chosen_step, how_chosen: whose weights were measured, and why.
        reason: why it failed.
        took_s: seconds of its last call.
        steps: optimizer steps, where they are not those that all runs share.
        train_s: seconds of its steps.
        transferred: what it took over from its weights.
    """

    arm: str
    cases: int
    seed: int
    folder: str
    status: Status = "waiting"
    evaluation: str | None = None
    split: str | None = None
    score: float | None = None
    chosen_step: int | None = None
    how_chosen: str | None = None
    reason: str | None = None
    took_s: float | None = None
    steps: int | None = None
    train_s: float | None = None
    transferred: str | None = None

    @property
    def title(self) -> str:
        """Return its name for people."""
        return run_title(self.arm, self.cases, self.seed)


@dataclass(frozen=True)
class PretrainingRecord:
    """One pre-training that the study ran.

    Attributes:
        folder: from the study's folder.
        steps: of each stage.
        planned_s: seconds that these steps were to take by the ones that were tried.
        train_s: seconds that they took; None before the end.
        verdict: what its figures say; None before the end, or where nothing was held out.
    """

    arm: str
    seed: int
    folder: str
    steps: tuple[int, ...]
    planned_s: float | None = None
    train_s: float | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class ArmRecord:
    """Where runs start from; the digest of a file of weights tells whether they are still the same."""

    weights: str | None
    sha256: str | None
    objective: str | None = None


@dataclass
class StudyRecord:
    """All that study.json holds but the outcome.

    Attributes:
        task: preset or file.
        settings: that all runs share, dotted key to value.
        arms: by name, the baseline first.
        runs: by folder, in the order in which they were first asked for.
        split: how its cases were split, for people.
        pretraining: what its pre-trainings share, by name.
        pretrainings: those that have begun, by arm and seed.
        step_s: seconds of a step of each stage of a pre-training, by arm.
    """

    task: str
    settings: dict[str, Any]
    arms: dict[str, ArmRecord]
    runs: dict[str, StudyRun] = field(default_factory=dict)
    split: str = ""
    pretraining: dict[str, Any] = field(default_factory=dict)
    pretrainings: dict[tuple[str, int], PretrainingRecord] = field(default_factory=dict)
    step_s: dict[str, list[float]] = field(default_factory=dict)

    def add(self, plan: StudyPlan) -> None:
        """Add the runs that a plan asks for beyond what is known."""
        for run in plan.runs():
            folder = run.place.as_posix()
            self.runs.setdefault(folder, StudyRun(run.arm.name, run.labelled, run.seed, folder))

    def of(self, run: PlannedRun) -> StudyRun:
        """Return what is known of a planned run."""
        return self.runs[run.place.as_posix()]

    def update(self, one: StudyRun) -> None:
        """Replace what is known of a run."""
        self.runs[one.folder] = one

    def in_order(self) -> list[StudyRun]:
        """Return the runs by number of labelled cases, arm, seed."""
        arms = list(self.arms)
        return sorted(self.runs.values(), key=lambda one: (one.cases, arms.index(one.arm), one.seed))


def open_record(plan: StudyPlan, settings: Settings) -> StudyRecord:
    """Return the record of a plan's folder with all that the plan asks for, or a new one.

    Args:
        settings: that its runs share, before the cases are fixed.
    Raises:
        UsageError: the folder holds a study of other settings, or the weights have changed since.
        DataError: weights that do not exist; a damaged study.json.
    """
    fixed = fixed_settings(settings)
    arms = {arm.name: ArmRecord(arm.weights, _digest(arm, settings), arm.objective) for arm in plan.arms}
    record = read_record(plan.folder)
    if record is None:
        if (plan.folder / CASES).exists():
            raise UsageError(f"{plan.folder} holds a {CASES} but no study.", "give another folder with -o")
        record = StudyRecord(plan.task, fixed, arms)
    else:
        _require_same(plan.folder, record, fixed, arms)
        record.arms |= arms
    record.add(plan)
    _add_pretraining(plan, record)
    return record


def read_record(folder: Path) -> StudyRecord | None:
    """Read the record that a folder holds; None where there is none yet.

    Raises:
        DataError: study.json is damaged.
        UsageError: it is of another format.
    """
    path = folder / FILE
    try:
        held = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "give another folder with -o") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}.", "give another folder with -o") from error
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise UsageError(f"{path} is not of the format {FORMAT}.", "give another folder with -o")
    try:
        record = StudyRecord(
            task=held["task"],
            settings=dict(held["settings"]),
            arms={name: ArmRecord(**arm) for name, arm in held["arms"].items()},
            runs={run["folder"]: StudyRun(**run) for run in held["runs"]},
            split=held["split"],
            pretraining=dict(held["pretraining"]),
            pretrainings={(one["arm"], one["seed"]): _pretraining(one) for one in held["pretrainings"]},
            step_s={arm: [float(s) for s in seconds] for arm, seconds in held["step_s"].items()},
        )
        record.in_order()
        return record
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}.", "give another folder with -o") from error


def recorded_arms(folder: Path) -> dict[str, str | None]:
    """Read names and weights of the study that a folder holds."""
    record = read_record(folder)
    arms = {} if record is None else record.arms
    return {name: arm.weights for name, arm in arms.items() if arm.weights is not None}


def with_recorded_names(plan: StudyPlan) -> StudyPlan:
    """Return the plan with the names that its folder has for arms of the same weights, however these are spelled.

    Raises:
        UsageError: settings that are wrong.
        DataError: weights that do not exist; a damaged study.json.
    """
    record = read_record(plan.folder)
    if record is None:
        return plan
    settings = plan.shared_settings()
    taken = {arm.name for arm in plan.arms}
    arms = []
    for arm in plan.arms:
        if arm.weights is not None and arm.name not in record.arms:
            digest = _digest(arm, settings)
            same = (name for name, one in record.arms.items() if one.sha256 == digest and name not in taken)
            arm = replace(arm, name=next(same, arm.name))
            taken.add(arm.name)
        arms.append(arm)
    return replace(plan, arms=tuple(arms))


def write_record(folder: Path, record: StudyRecord, outcome: Mapping[str, Any]) -> Path:
    """Write study.json.

    Args:
        outcome: what the finished runs say, as JSON holds it.
    Raises:
        ResourceError: the disk is full.
    """
    held = {
        "format": FORMAT,
        "version": __version__,
        "task": record.task,
        "split": record.split,
        "arms": {name: asdict(arm) for name, arm in record.arms.items()},
        "cases": sorted({run.cases for run in record.runs.values()}),
        "seeds": sorted({run.seed for run in record.runs.values()}),
        "settings": record.settings,
        "pretraining": record.pretraining,
        "step_s": record.step_s,
        "pretrainings": [asdict(one) for _, one in sorted(record.pretrainings.items())],
        "runs": [asdict(run) for run in record.in_order()],
        **outcome,
    }
    write_atomic(folder / FILE, json.dumps(held, indent=2, allow_nan=False).encode() + b"\n")
    return folder / FILE


def _pretraining(held: Mapping[str, Any]) -> PretrainingRecord:
    return PretrainingRecord(**{**held, "steps": tuple(held["steps"])})


def _add_pretraining(plan: StudyPlan, record: StudyRecord) -> None:
    """Note what pre-trainings are asked for.

    Raises:
        UsageError: those of the folder have other budgets or settings.
    """
    if not plan.pretrained:
        return
    asked = plan.pretraining
    digest = None
    if asked.config is not None:
        try:
            digest = hashlib.sha256(asked.config.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"{asked.config} cannot be read: {error.strerror}.", "check --pretrain-config") from error
    now = {"minutes": asked.minutes, "steps": asked.steps, "recipe": asked.recipe, "config_sha256": digest}
    changed = [key for key, value in now.items() if record.pretraining and record.pretraining[key] != value]
    if changed:
        lines = "\n".join(f"  {key}: {record.pretraining[key]} -> {now[key]}" for key in changed)
        raise UsageError(
            f"{plan.folder} was started with other pre-trainings:\n{lines}",
            "give the old ones to go on, or another folder with -o",
        )
    record.pretraining = now


def _digest(arm: Arm, settings: Settings) -> str | None:
    return weights_digest(settings.model.model_copy(update={"weights": arm.weights}))


def _require_same(folder: Path, record: StudyRecord, fixed: Mapping[str, Any], arms: Mapping[str, ArmRecord]) -> None:
    """Refuse to mix runs that differ in more than weights, labels and seeds."""
    defaults = fixed_settings(Settings())
    before = {key: record.settings.get(key, defaults[key]) for key in fixed}
    changed = [key for key in fixed if before[key] != fixed[key] and not is_file_spelled(key, before, fixed)]
    if changed:
        lines = "\n".join(f"  {key}: {before[key]} -> {fixed[key]}" for key in changed)
        raise UsageError(
            f"{folder} was started with other settings:\n{lines}",
            "give the old settings to go on, or another folder with -o",
        )
    other = [name for name, arm in arms.items() if name in record.arms and record.arms[name].sha256 != arm.sha256]
    if other:
        weights = ", ".join(str(arms[name].weights) for name in other)
        raise UsageError(
            f"{folder} has runs from {weights}, which holds other weights now.", "give another folder with -o"
        )
