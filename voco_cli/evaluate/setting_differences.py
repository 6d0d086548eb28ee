"""What else differs between compared evaluations: settings, steps, training cases, and what each side missed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voco_cli.config.sources import flatten
from voco_cli.evaluate.comparison import Comparison
from voco_cli.evaluate.result_files import SUMMARY
from voco_cli.evaluate.segmentation.metrics import METRICS, metric_title
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.foreign_text import shortened

PLACES = frozenset({"run.dir"})
"""Settings that differ between any two runs and tell nothing."""
STEPS = "train.steps"
MOST_SETTINGS = 12


@dataclass(frozen=True)
class TrainedAs:
    """How the run of an evaluation was trained, as far as its folder says.

    Attributes:
        settings: by dotted key; empty where there is no run, or its settings cannot be read.
        training: names of its training cases; none where its data.json does not say.
    """

    settings: Mapping[str, Any]
    training: frozenset[str] | None = None


def trained_as(folder: Path) -> TrainedAs:
    """Read how the run was trained that an evaluation belongs to: by its place in the run, or by its summary.json."""
    named = _object(folder / SUMMARY).get("run")
    places = [*folder.resolve().parents[1:2], *([Path(named)] if isinstance(named, str) else [])]
    run = next((place for place in places if (place / "settings.yaml").is_file()), None)
    if run is None:
        return TrainedAs({})
    try:
        held = yaml.safe_load((run / "settings.yaml").read_bytes())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        held = None
    settings = held.get("settings") if isinstance(held, dict) else None
    listed = _object(run / "data.json").get("training")
    training = None
    if isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        training = frozenset(str(one.get("case") or one.get("image")) for one in listed)
    return TrainedAs(dict(flatten(settings)) if isinstance(settings, dict) else {}, training)


def unlike_settings(trained: Sequence[TrainedAs]) -> dict[str, list[Any]]:
    """Return settings that are not the same in all runs, with the value of each; nothing where a run has none."""
    if not all(one.settings for one in trained):
        return {}
    keys = dict.fromkeys(key for one in trained for key in one.settings if key not in PLACES)
    values = {key: [one.settings.get(key) for one in trained] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found[1:])}


def settings_sentences(names: Sequence[str], trained: Sequence[TrainedAs]) -> list[str]:
    """Return which settings differ, in one sentence, and that nothing is known where a run's cannot be read."""
    unknown = [name for name, one in zip(names, trained, strict=True) if not one.settings]
    if unknown:
        words = ", ".join(unknown)
        return [f"Whether these were trained alike is not known: {words} has no settings of a run beside it."]
    unlike = unlike_settings(trained)
    if not unlike:
        return ["The settings of these runs are the same."]
    found = [f"{key} ({' | '.join(_words(value) for value in unlike[key])})" for key in list(unlike)[:MOST_SETTINGS]]
    more = f"; and {len(unlike) - MOST_SETTINGS} more" if len(unlike) > MOST_SETTINGS else ""
    return [f"Settings that differ ({' | '.join(names)}): {'; '.join(found)}{more}."]


def training_warnings(names: Sequence[str], trained: Sequence[TrainedAs]) -> list[str]:
    """Return what makes a comparison unequal: other numbers of steps, or other training cases than the first run's."""
    warnings = []
    steps = [count for one in trained if isinstance(count := one.settings.get(STEPS), int)]
    if len(steps) == len(trained) and len(set(steps)) > 1:
        each = ", ".join(f"{name} for {count:,}" for name, count in zip(names, steps, strict=True))
        warnings.append(f"Not trained for the same number of steps: {each}.")
    first = trained[0].training
    for name, one in zip(names[1:], trained[1:], strict=True):
        if first is not None and one.training is not None and one.training != first:
            warnings.append(
                f"Not trained on the same cases: {names[0]} on {len(first)}, {name} on {len(one.training)}, "
                f"of which {len(first & one.training)} are the same."
            )
    return warnings


def missed_sentences(found: Comparison, tables: Sequence[ResultTable], tolerance_mm: float) -> list[str]:
    """Return, where a metric leaves out cases in which one side missed a structure, how many each side missed.

    A distance is only known where both maps have the structure: who misses the hard ones may look better.
    """
    metrics_of: dict[tuple[str, str], list[str]] = {}
    pairs_of: dict[tuple[str, str], int] = {}
    for metric in METRICS:
        for one in found.of_metric(metric):
            if one.unpaired and one.part is not None:
                metrics_of.setdefault((one.run, one.part), []).append(metric_title(metric, tolerance_mm))
                pairs_of[one.run, one.part] = one.cases
    first = found.runs[0]
    return [
        f"{' and '.join(metrics)} of {structure} rest on the {pairs_of[run, structure]} cases in which both have it: "
        f"{_counts(first, tables[0], structure)}, {_counts(run, tables[found.runs.index(run)], structure)}."
        for (run, structure), metrics in metrics_of.items()
    ]


def _counts(run: str, table: ResultTable, structure: str) -> str:
    column = next(i for i, one in enumerate(table.structures) if one.name == structure)
    missed, added = table.count("missed", column), table.count("false_positive", column)
    return f"{run} missed it in {missed}" + (f" and put it where it is not in {added}" if added else "")


def _words(value: Any) -> str:
    return shortened(value if isinstance(value, str) and value else json.dumps(value, default=str), 60)


def _object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where it cannot be read."""
    try:
        held = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}
