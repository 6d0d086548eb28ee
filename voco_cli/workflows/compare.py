"""`voco compare` without its command line: evaluations of the same cases, paired, as tables, a picture and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from voco_cli.config.sources import flatten
from voco_cli.errors import UsageError, VocoError
from voco_cli.evaluate.compared_runs import ComparedTable
from voco_cli.evaluate.comparison import pairing_faults
from voco_cli.evaluate.read_results import Stored
from voco_cli.evaluate.result_files import SUMMARY, interval_object, is_spotless, require_clean
from voco_cli.evaluate.tables import markdown
from voco_cli.figures.comparison import draw_comparison
from voco_cli.foreign_text import shortened

PLACES = frozenset({"run.dir"})
"""Settings that differ between any two runs and mean nothing."""
STEPS = "train.steps"
MOST_SETTINGS = 12


@dataclass(frozen=True)
class Compared:
    """Evaluations of the same cases, paired.

    Attributes:
        runs: names of the evaluations; the first is compared with.
        tables: for the terminal, with the largest changes alone.
        statements: what the tables must say of themselves.
        training: which settings differ between the runs, and warnings.
        leakage: what each evaluation recorded of cases that were in the training.
        spotless: nothing of it spoils the figures.
        content: all of comparison.json.
        page: all of comparison.md.
        picture: all of comparison.png.
    """

    runs: tuple[str, ...]
    tables: tuple[ComparedTable, ...]
    statements: tuple[str, ...]
    training: tuple[str, ...]
    leakage: tuple[str, ...]
    spotless: bool
    content: dict[str, Any]
    page: str
    picture: bytes


def compare_evaluations(
    names: Sequence[str], stored: Sequence[Stored], metric: str | None, resamples: int, seed: int
) -> Compared:
    """Compare evaluations of one kind with the first.

    Args:
        names: of the evaluations.
        metric: of the tables and the picture; none is the first that the kind has.
        resamples, seed: of the bootstrap and of the permutation tests.
    Raises:
        VocoError: they cannot be paired.
        UsageError: evaluations of two kinds, or a metric that they do not have.
    """
    first, *others = stored
    metrics = list(first.comparison.metrics)
    _require_one_kind(names, stored)
    if metric is not None and metric not in metrics:
        hint = f"Use one of {', '.join(metrics)}." if len(metrics) > 1 else "leave it out: one table has all"
        raise UsageError(f"--metric {metric} is no metric of {first.kind}s.", hint)
    _require_pairs(names, stored)
    found, shown = first.compare(names, others, resamples, seed), metric or metrics[0]
    differences, changes = found.differences_table(shown), found.changes_table(shown)
    trained = [trained_as(one.folder) for one in stored]
    warnings = training_warnings(names, trained)
    training = (*settings_sentences(names, trained), *(f"warning: {line}" for line in warnings))
    recorded = [(name, one.leakage) for name, one in zip(names, stored, strict=True) if one.leakage]
    leakage = [f"{name}: {sentence}" for name, one in recorded for sentence in one.get("sentences", ())]
    statements = [*found.statements(resamples), *found.warnings()]
    page = [f"# {found.title(shown)}\n", markdown(differences.headings, differences.rows)]
    tables, more = [differences], []
    if changes.rows:
        page += [f"## {changes.title}\n", markdown(changes.headings, changes.rows)]
        tables.append(replace(changes, rows=changes.rows[: found.most_shown]))
    if len(changes.rows) > found.most_shown:
        more.append(found.more_changes.format(len(changes.rows) - found.most_shown))
    return Compared(
        runs=tuple(names),
        tables=tuple(tables),
        statements=(*more, *statements),
        training=training,
        leakage=tuple(leakage),
        spotless=all(is_spotless(one) for _, one in recorded),
        content={
            "format": found.format,
            "evaluations": [str(one.folder) for one in stored],
            "splits": [one.split for one in stored],
            "leakage": [one.leakage for one in stored],
            "settings_that_differ": unlike_settings(trained),
            "warnings": warnings,
            "interval": interval_object(resamples, seed),
            **found.to_json(),
        },
        page="\n".join([*page, *statements, *training, *leakage]) + "\n",
        picture=draw_comparison(found, shown),
    )


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the folders' own names; with the folder above where two are the same, numbered where that is no help."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    counts = Counter(names)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(names)]


def _require_one_kind(names: Sequence[str], stored: Sequence[Stored]) -> None:
    kinds: dict[str, str] = {}
    for name, one in zip(names, stored, strict=True):
        kinds.setdefault(one.kind, name)
    if len(kinds) > 1:
        (kind, name), (other_kind, other), *_ = sorted(kinds.items())
        raise UsageError(f"{name} is a {kind} and {other} a {other_kind}, which cannot be compared.")


def _require_pairs(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Refuse, with all that differs, what would compare unlike things.

    Raises:
        VocoError: they cannot be paired.
    """
    if faults := unpairable(names, stored):
        pairs = zip(names, stored, strict=True)
        unmeasured = [
            f"{name} could not measure {', '.join(case for case, _ in one.failed)}" for name, one in pairs if one.failed
        ]
        raise VocoError(
            f"These evaluations cannot be paired: {'; '.join([*faults, *unmeasured])}.",
            f"Evaluate the same cases against the same {stored[0].same}.",
        )


def unpairable(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Return why evaluations cannot be paired with the first, one sentence each; none where they can."""
    first, *others = stored
    if other_kinds := [one.kind for one in others if one.kind != first.kind]:
        return [f"one is a {first.kind} and the other a {kind}" for kind in other_kinds]
    options = [first.option_faults(names[0], name, one) for name, one in zip(names[1:], others, strict=True)]
    return [*chain.from_iterable(options), *pairing_faults(names, [one.table for one in stored])]


def same_folders(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Return which evaluations are one and the same folder, one sentence each."""
    by_folder: dict[Path, list[str]] = {}
    for name, one in zip(names, stored, strict=True):
        by_folder.setdefault(one.folder.resolve(), []).append(name)
    groups = (same for same in by_folder.values() if len(same) > 1)
    return [f"{' and '.join(same)} are the same evaluation: every difference is 0." for same in groups]


def require_one_split(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Refuse to compare cases that weights were chosen on with cases that nothing was chosen on.

    Raises:
        VocoError: evaluations of different splits.
    """
    splits = {one.split: name for name, one in zip(names, stored, strict=True) if one.split}
    if len(splits) > 1:
        words = " and ".join(f"{name} is of its {split} split" for split, name in splits.items())
        raise VocoError(f"These evaluations cannot be paired: {words}.", "Evaluate both on the same split.")


def require_all_clean(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Refuse evaluations whose cases were in the training, or of which that is not known.

    Raises:
        VocoError: one of them.
    """
    for name, one in zip(names, stored, strict=True):
        if one.leakage is None:
            raise VocoError(
                f"{name} was evaluated without looking whether its cases were in the training.",
                "evaluate the run itself: voco evaluate RUN",
            )
        require_clean(one.leakage, name)


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


def _words(value: Any) -> str:
    return shortened(value if isinstance(value, str) and value else json.dumps(value, default=str), 60)


def _object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where it cannot be read."""
    try:
        held = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}
