"""What a study runs: starting weights x numbers of labelled cases x seeds, and the settings of each run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.config import Resolved, Settings, load_settings
from voco_cli.errors import DataError, UsageError
from voco_cli.training.run_contents import weights_digest
from voco_cli.training.run_dir import FREE_TO_CHANGE, is_file_spelled

BASELINE = "none"
VARYING = ("run.dir", "seed", "task.cases", "model.weights")
"""Settings that tell the runs of a study apart, and that nobody else may set."""
MOST_LETTERS = 32
PLAIN_NAMES = {"weights", "checkpoints", "encoder", "model", "student", "teacher"}
"""Names that every run folder has inside: they tell nothing of whose weights these are."""


@dataclass(frozen=True)
class Arm:
    """What runs start from.

    Attributes:
        name: of its folder, and in tables.
        weights: run folder, file or hf:// address; none starts fresh.
    """

    name: str
    weights: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One fine-tuning run."""

    arm: Arm
    labelled: int
    seed: int

    @property
    def place(self) -> Path:
        """Return its folder, from the study's."""
        return Path(self.arm.name) / f"n{self.labelled:03d}-seed{self.seed}"

    @property
    def record(self) -> StudyRun:
        """Return what study.json holds of it before it begins."""
        return StudyRun(self.arm.name, self.labelled, self.seed, self.place.as_posix())


@dataclass(frozen=True)
class StudyPlan:
    """What is asked of a study.

    Attributes:
        folder: of the study.
        task: preset or YAML file.
        arms: the baseline first.
        sizes: numbers of labelled cases, ascending.
        seeds: of subsets, fresh weights and order.
        config, overrides, flags: settings that all runs share, as `load_settings` takes them.
    """

    folder: Path
    task: str
    arms: tuple[Arm, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    flags: Mapping[str, Any] | None = None

    def runs(self) -> list[PlannedRun]:
        """Return all runs, seed by seed with arms interleaved, so that whatever is finished is balanced."""
        return [PlannedRun(arm, n, seed) for seed in self.seeds for n in self.sizes for arm in self.arms]

    def settings_of(self, run: PlannedRun, cases: Path | None = None, cache: Path | None = None) -> Resolved:
        """Return the settings of a run.

        Args:
            cases: list that all runs share, in place of the split of the task.
            cache: folder that all runs share.
        Raises:
            UsageError: settings that are wrong, or that belong to the study.
        """
        own = {
            "run.dir": self.folder / run.place,
            "seed": run.seed,
            "task.cases": run.labelled,
            "model.weights": run.arm.weights,
        }
        flags = {**(self.flags or {}), **own}
        overrides = self.overrides
        if run.arm.weights is None and any(arm.weights for arm in self.arms):
            # A fresh encoder that is frozen would stay random; the tables say that this arm trains its own.
            overrides = (*overrides, "task.freeze_encoder=false")
        if cases is not None:
            # Stronger than what the user has set; the list has its own split.
            places = (f"{key}={json.dumps(str(path))}" for key, path in (("data.file", cases), ("cache.dir", cache)))
            overrides = (*overrides, *places, "task.split=null")
        resolved = load_settings(None, self.config, overrides, flags, task=self.task)
        settings = resolved.settings
        found = (settings.run.dir, settings.seed, settings.task.cases, settings.model.weights)
        for key, value, wanted in zip(VARYING, found, own.values(), strict=True):
            if value != wanted:
                raise UsageError(
                    f"{key} is set to {value} by {resolved.sources[key]}, and a study sets it for each run itself.",
                    "give --weights, --cases and --seeds instead",
                )
        return resolved

    def shared_settings(self) -> Settings:
        """Return what its runs have in common, as those from weights have it.

        Raises:
            UsageError: settings of any arm that are wrong, or that belong to the study.
        """
        of_arms = [self.settings_of(PlannedRun(arm, self.sizes[0], self.seeds[0])) for arm in self.arms]
        return of_arms[-1].settings


def make_plan(
    folder: Path,
    task: str,
    weights: Sequence[str],
    sizes: Sequence[int],
    seeds: int,
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    known: Mapping[str, str | None] | None = None,
) -> StudyPlan:
    """Make a plan from what a user asks for; fresh weights are always among the arms.

    Args:
        weights: ``none`` or anything that ``model.weights`` takes.
        sizes: numbers of labelled cases.
        seeds: how many; they are 0, 1, ...
        known: names and weights of an earlier plan for the same folder, which keep their names.
    Raises:
        UsageError: no number of cases, or none that can be.
    """
    if not sizes or min(sizes) < 1:
        raise UsageError("A study needs numbers of labelled cases of at least 1.", "for example --cases 5,10,20")
    if seeds < 1:
        raise UsageError("A study needs one seed at least.", "for example --seeds 3")
    asked = dict.fromkeys([BASELINE, *weights])
    arms = [Arm(BASELINE)]
    taken = {BASELINE, *(known or {})}
    for source in list(asked)[1:]:
        name = next((name for name, of in (known or {}).items() if of == source), None) or _new_name(source, taken)
        taken.add(name)
        arms.append(Arm(name, source))
    return StudyPlan(
        folder, task, tuple(arms), tuple(sorted(set(sizes))), tuple(range(seeds)), config, tuple(overrides), flags
    )


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


def _new_name(source: str, taken: set[str]) -> str:
    """Return a short name for weights that no other arm has: of a run folder or file, whatever lies inside."""
    parts = [part for part in re.split(r"[/\\]", source.removeprefix("hf://")) if part not in ("", ".", "..")]
    parts[-1:] = [re.sub(r"\.(safetensors|pt|pth|pkl|gz|bin|ckpt)\b", "", part) for part in parts[-1:]]
    telling = [part for part in parts if part.lower() not in PLAIN_NAMES]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", telling[-1] if telling else "weights")
    if name.startswith("step-") and len(telling) > 1:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{telling[-2]}-{name}")
    name = name.strip("-.")[:MOST_LETTERS] or "weights"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


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

    @property
    def title(self) -> str:
        """Return its name for people."""
        return f"{self.arm}, {self.cases} labelled case{'s' if self.cases > 1 else ''}, seed {self.seed}"


@dataclass(frozen=True)
class ArmRecord:
    """Starting weights; the digest of their file tells whether they are still the same."""

    weights: str | None
    sha256: str | None


@dataclass
class StudyRecord:
    """All that study.json holds but the outcome.

    Attributes:
        task: preset or file.
        settings: that all runs share, dotted key to value.
        arms: by name, the baseline first.
        runs: by folder, in the order in which they were first asked for.
        split: how its cases were split, for people.
    """

    task: str
    settings: dict[str, Any]
    arms: dict[str, ArmRecord]
    runs: dict[str, StudyRun] = field(default_factory=dict)
    split: str = ""

    def add(self, plan: StudyPlan) -> None:
        """Add the runs that a plan asks for beyond what is known."""
        for run in plan.runs():
            self.runs.setdefault(run.record.folder, run.record)

    def of(self, run: PlannedRun) -> StudyRun:
        """Return what is known of a planned run."""
        return self.runs[run.record.folder]

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
    arms = {arm.name: ArmRecord(arm.weights, _digest(arm, settings)) for arm in plan.arms}
    record = read_record(plan.folder)
    if record is None:
        if (plan.folder / CASES).exists():
            raise UsageError(f"{plan.folder} holds a {CASES} but no study.", "give another folder with -o")
        record = StudyRecord(plan.task, fixed, arms)
    else:
        _require_same(plan.folder, record, fixed, arms)
        record.arms |= arms
    record.add(plan)
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
        )
        record.in_order()
        return record
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}.", "give another folder with -o") from error


def recorded_arms(folder: Path) -> dict[str, str | None]:
    """Read names and weights of the study that a folder holds."""
    record = read_record(folder)
    return {} if record is None else {name: arm.weights for name, arm in record.arms.items()}


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
        if arm.name not in record.arms:
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
        "runs": [asdict(run) for run in record.in_order()],
        **outcome,
    }
    write_atomic(folder / FILE, json.dumps(held, indent=2, allow_nan=False).encode() + b"\n")
    return folder / FILE


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
