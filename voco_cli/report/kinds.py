"""What a folder holds, told by its content: a pre-training, a fine-tuning, a study or a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from voco_cli.errors import DataError, UsageError

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
    """Tell what lies in a folder.

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
    """What settings.yaml of a run holds: ``settings`` by section, ``sources`` and ``versions``.

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
    """The folders' own names, after as many folders above them as it takes to tell them apart.

    Args:
        folders: each of them another one.
    """
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({one[-depth:] for one in parts}) < len(parts):
        depth += 1
    return [Path(*one[-depth:]).as_posix() for one in parts]
