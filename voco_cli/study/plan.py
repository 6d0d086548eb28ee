"""What a study runs: starting weights x numbers of labelled cases x seeds, and the settings of each run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.engine.run_folder import FREE_TO_CHANGE
from voco_cli.errors import UsageError
from voco_cli.settings import Resolved, Settings, load_settings

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
        """Its folder, from the study's."""
        return Path(self.arm.name) / f"n{self.labelled:03d}-seed{self.seed}"

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.arm.name}, {self.labelled} labelled case{'s' if self.labelled > 1 else ''}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
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
        """Seed by seed, arms interleaved, so that whatever is finished is balanced."""
        return [PlannedRun(arm, n, seed) for seed in self.seeds for n in self.sizes for arm in self.arms]

    def settings_of(self, run: PlannedRun, cases: Path | None = None, cache: Path | None = None) -> Resolved:
        """The settings of a run.

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
        """What its runs have in common, as those from weights have it.

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
) -> Plan:
    """A plan from what a user asks for; fresh weights are always among the arms.

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
    return Plan(
        folder, task, tuple(arms), tuple(sorted(set(sizes))), tuple(range(seeds)), config, tuple(overrides), flags
    )


def fixed_settings(settings: Settings) -> dict[str, Any]:
    """All that must be the same in every run of a study, as JSON holds it: dotted key to value."""
    flat: dict[str, Any] = {}
    for section, value in settings.model_dump(mode="json").items():
        flat |= (
            {f"{section}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {section: value}
        )
    # What leaves the weights as they are may still change the figures: how they are measured stays.
    free = {*VARYING, *(key for key in FREE_TO_CHANGE if not key.startswith("evaluate."))}
    return {key: value for key, value in flat.items() if key not in free}


def _new_name(source: str, taken: set[str]) -> str:
    """A short name for weights that no other arm has: of a run folder or file, whatever lies inside."""
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
