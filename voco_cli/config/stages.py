"""Objectives as a user spells them, ``voco+mae`` or ``voco:mae``, and the settings of each stage of a pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from voco_cli.config.load import Resolved
from voco_cli.config.objective_schema import Objectives
from voco_cli.config.sources import flatten
from voco_cli.config.validation import in_stage
from voco_cli.errors import UsageError

STAGES = "stages"
"""Folder inside a run's, with the runs of its earlier stages."""
Stage = dict[str, float]
"""Weight of each objective that is summed in a stage, by its name."""


def parse_objectives(text: str) -> tuple[Stage, ...]:
    """Read objectives: ``+`` between those that are summed, ``:`` between stages, ``=`` before a weight.

    Returns:
        the weights of each stage: ``voco+mae=0.5:mae`` gives ``({"voco": 1, "mae": 0.5}, {"mae": 1})``.
    Raises:
        UsageError: an unknown objective, one that is named twice in a stage, or a weight that is not above 0.
    """
    return tuple(_parse_stage(part, text) for part in text.split(":"))


def _parse_stage(text: str, whole: str) -> Stage:
    known = list(Objectives.model_fields)
    stage: Stage = {}
    for part in text.split("+"):
        name, equals, weight = (word.strip() for word in part.partition("="))
        if name not in known:
            raise UsageError(
                f"There is no objective {name!r} (in {whole!r}).",
                f"use {', '.join(known)}; A+B sums two, A:B trains one after the other",
            )
        if name in stage:
            raise UsageError(f"The objective {name} is named twice in a stage of {whole!r}.", "name it once")
        try:
            stage[name] = float(weight) if equals else 1.0
        except ValueError:
            stage[name] = 0.0
        if not 0 < stage[name] < float("inf"):
            raise UsageError(f"{part.strip()!r} gives {name} no weight above 0.", f"for example {name}=0.5")
    return stage


def objective_flags(text: str | None) -> dict[str, Any]:
    """Return objectives as flags of `load_settings`: weights, and stages where there are several.

    Raises:
        UsageError: as `parse_objectives`.
    """
    if text is None:
        return {}
    stages = parse_objectives(text)
    flags: dict[str, Any] = {f"objective.{name}.weight": weight for name, weight in _all_weights(stages[-1]).items()}
    if len(stages) > 1:
        flags["stages"] = [
            {"objective": {name: {"weight": weight} for name, weight in _all_weights(stage).items()}}
            for stage in stages
        ]
    return flags


def _all_weights(stage: Mapping[str, float]) -> Stage:
    return {name: stage.get(name, 0.0) for name in Objectives.model_fields}


def stage_runs(resolved: Resolved) -> list[Resolved]:
    """Return the settings of each stage, in order: every stage is a run that starts from the weights of the last.

    The last stage is the run itself; those before it have their folders in ``stages/`` of its run folder.
    """
    settings = resolved.settings
    folder, weights = settings.run.dir, settings.model.weights
    runs = []
    for number, stage in enumerate(settings.stages, 1):
        own = in_stage(settings, stage)
        is_last = number == len(settings.stages)
        place = folder if is_last else folder / STAGES / f"{number}-{'+'.join(own.objective.active())}"
        own = own.model_copy(
            update={
                "run": own.run.model_copy(update={"dir": place}),
                "model": own.model.model_copy(update={"weights": weights}),
                "stages": settings.stages if is_last else (),
            }
        )
        sources = {**resolved.sources, **dict.fromkeys(dict(flatten(stage)), f"stage {number}")}
        runs.append(Resolved(own, sources))
        weights = str(place)
    return runs or [resolved]


def stages_apart(resolved: Resolved) -> list[Resolved]:
    """Return the settings of each stage as a run of its own from the first weights, for what plans or tries them."""
    weights = resolved.settings.model.weights
    apart = []
    for stage in stage_runs(resolved):
        model = stage.settings.model.model_copy(update={"weights": weights})
        apart.append(replace(stage, settings=stage.settings.model_copy(update={"model": model, "stages": ()})))
    return apart
