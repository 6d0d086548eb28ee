"""The small files of a run folder, read so that a run that failed, or still runs, can be shown as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from voco_cli.dataset.datalist import Datalist
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.errors import VocoError
from voco_cli.report.blocks import Facts, Sentence, Tone
from voco_cli.report.curves import Metrics, read_curves
from voco_cli.report.kinds import read_settings
from voco_cli.settings.layers import flatten

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
        """Optimizer steps of the whole run."""
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
    """A JSON object; an empty one where the file is missing, damaged or something else."""
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def status_of(run: RunRecord) -> tuple[str, Tone, Sentence]:
    """How a run stands: in a word, and in a sentence with the reason."""
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
    """When the state was last written: ``2026-11-26 08:48 UTC+01:00``; as it stands where it is no time."""
    text = str(run.state.get("time") or "")
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return text
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname()}"


def ran_with(run: RunRecord) -> Facts:
    """Folder, machine and versions."""
    others = [(name, text) for name, text in run.versions.items() if name != "machine"]
    machine = [("machine", run.versions["machine"])] if "machine" in run.versions else []
    return Facts((("folder", str(run.path)), *machine, *others))


def _texts(held: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, Mapping) else {}
