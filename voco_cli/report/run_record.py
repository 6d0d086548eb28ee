"""The small files of a run folder, read so that a run that failed, or still runs, can be shown as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from voco_cli.config.sources import flatten
from voco_cli.data.index.datalist import Datalist
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.document.blocks import Facts, Sentence, Tone
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.report.curves import Metrics, read_curves

Kind = Literal["pre-training", "fine-tuning", "study", "comparison"]

STUDY, COMPARISON, SETTINGS, EVALUATION = "study.json", "comparison.json", "settings.yaml", "summary.json"
HINT = "give the folder of a voco pretrain, voco finetune, voco study or voco compare -o"


class _PlainLoader(yaml.SafeLoader):
    """Values alone: saved settings have no aliases, of which a few lines make a tree without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("saved settings have no aliases")
        return super().compose_node(parent, index)


def kind_of(path: Path) -> Kind:
    """Return what lies in a folder.

    Raises:
        DataError: there is no such folder, or its settings are damaged.
        UsageError: it holds none of what can be shown.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.", HINT)
    if not path.is_dir():
        raise UsageError(f"{path} is a file.", f"give its folder: voco report {path.parent}")
    if (path / STUDY).is_file():
        return "study"
    if (path / COMPARISON).is_file():
        return "comparison"
    if (path / SETTINGS).is_file():
        task = read_settings(path).get("settings", {}).get("task", {})
        return "fine-tuning" if isinstance(task, Mapping) and task.get("preset") else "pre-training"
    if (path / EVALUATION).is_file():
        raise UsageError(f"{path} is an evaluation and no run.", "give the run that it belongs to, or compare it first")
    raise UsageError(f"{path} holds no run, study or comparison.", HINT)


def read_settings(path: Path) -> dict[str, Any]:
    """Read what settings.yaml of a run holds: ``settings`` by section, ``sources`` and ``versions``.

    Raises:
        DataError: it is damaged.
    """
    file = path / SETTINGS
    try:
        held = yaml.load(file.read_text(encoding="utf-8"), _PlainLoader)
    except RecursionError as error:
        raise DataError(f"{file} is nested too deep to be read.", HINT) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{file} cannot be read: {error}.", "without it nothing is known of the run") from error
    if not isinstance(held, dict) or not isinstance(held.get("settings"), dict):
        raise DataError(f"{file} holds no settings of a run.", HINT)
    return held


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' own names, after as many folders above them as it takes to tell them apart.

    Args:
        folders: each of them another one.
    """
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({one[-depth:] for one in parts}) < len(parts):
        depth += 1
    return [Path(*one[-depth:]).as_posix() for one in parts]


SHOWN_STATUS: Mapping[str, Tone] = {"done": "good", "interrupted": "warning", "running": "warning", "failed": "bad"}


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says of itself.

    Attributes:
        name: for people.
        settings: dotted key to value, as saved; values are those of YAML.
        sources: key to where its value came from; keys with their default are left out.
        versions: what it ran with, and the machine.
        state: of state.json; empty where there is none.
        metrics: of metrics.jsonl.
        datalist: of data.json; None where it cannot be read, and ``data_fault`` says why.
    """

    path: Path
    name: str
    settings: Mapping[str, Any]
    sources: Mapping[str, str]
    versions: Mapping[str, str]
    state: Mapping[str, Any]
    metrics: Metrics
    datalist: Datalist | None
    data_fault: str = ""

    @property
    def steps(self) -> int | None:
        """Return the optimizer steps of the whole run."""
        steps = self.settings.get("train.steps")
        return steps if isinstance(steps, int) else None


def read_run(path: Path, name: str) -> RunRecord:
    """Read what is there; of all files only the settings must be.

    Raises:
        DataError: settings.yaml is damaged.
    """
    held = read_settings(path)
    datalist, fault = None, ""
    try:
        datalist = read_datalist(path / "data.json", check_files=False)
    except VocoError as error:
        fault = error.message
    return RunRecord(
        path=path,
        name=name,
        settings=dict(flatten(held["settings"])),
        sources=_texts(held.get("sources")),
        versions=_texts(held.get("versions")),
        state=read_object(path / "state.json"),
        metrics=read_curves(path / "metrics.jsonl"),
        datalist=datalist,
        data_fault=fault,
    )


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing, damaged or something else."""
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def status_of(run: RunRecord) -> tuple[str, Tone, Sentence]:
    """Return how a run stands: in a word, its tone, and in a sentence with the reason."""
    status, step = str(run.state.get("status", "")), run.state.get("step", 0)
    reason = str(run.state.get("reason") or "").strip()
    reached = f"step {step:,}" if isinstance(step, int) else f"step {step}"
    reached += f" of {run.steps:,}" if run.steps is not None else ""
    when = when_of(run)
    at = f", {when}" if when else ""
    because = f": {reason}" if reason else "."
    tone = SHOWN_STATUS.get(status, "plain")
    if status == "done":
        return "done", tone, Sentence(f"Finished at {reached}{at}.", tone)
    if status == "interrupted":
        words = f"Stopped at {reached}{at}{because} The same command goes on from there."
        return "interrupted", tone, Sentence(words, tone)
    if status == "failed":
        return "failed", tone, Sentence(f"Failed; the last checkpoint is that of {reached}{at}{because}", tone)
    if status == "running":
        words = f"Still running, or killed without a word: {reached} when it last wrote its state{at}."
        return "running", tone, Sentence(words, tone)
    if status == "preparing":
        words = f"Still preparing, or killed without a word, before the first step{at}: the same command begins anew."
        return "preparing", "warning", Sentence(words, "warning")
    return "not started", "warning", Sentence("There is no state.json: no step of training was begun.", "warning")


def when_of(run: RunRecord) -> str:
    """Return when the state was last written: ``2026-11-26 08:48 UTC+01:00``; as it stands where it is no time."""
    text = str(run.state.get("time") or "")
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return text
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname()}"


def ran_with(run: RunRecord) -> Facts:
    """Return folder, machine and versions."""
    others = [(name, text) for name, text in run.versions.items() if name != "machine"]
    machine = [("machine", run.versions["machine"])] if "machine" in run.versions else []
    return Facts((("folder", str(run.path)), *machine, *others))


def _texts(held: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, Mapping) else {}
