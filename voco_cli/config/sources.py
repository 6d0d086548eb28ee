"""Layers of values: where each comes from, down to file and line, and how they are merged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from voco_cli.errors import UsageError

Nested = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """Values from one source.

    Attributes:
        source: what a person calls it: a file, an environment, a flag.
        values: dotted key to value.
        lines: dotted key to line, for files.
        is_typed: these are flags of the command itself, which somebody has typed; never set of anything that is read.
    """

    source: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    is_typed: bool = False

    def place(self, key: str) -> str:
        """Return where in the source ``key`` stands, as ``file:line`` where there are lines."""
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of nested mappings; an empty section (``train:`` with nothing below) has none."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{key}.")
        else:
            yield key, value


def nest(values: Mapping[str, Any]) -> Nested:
    """Return nested mappings of dotted keys: the inverse of `flatten`.

    Raises:
        UsageError: a key is used both as a value and as a section.
    """
    nested: Nested = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"{key} is set, but {section} above it is a single value.")
        place[name] = value
    return nested


def merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """Return the values of all layers, strongest first, and for each key the layer that it came from."""
    values: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    for layer in reversed(layers):
        for key, value in layer.values.items():
            values[key], origin[key] = value, layer
    return values, origin


def yaml_layer(path: Path, source: str | None = None, loader: type[yaml.BaseLoader] = yaml.SafeLoader) -> Layer:  # type: ignore[assignment]
    """Return the values of a settings file, or of the ``settings.yaml`` that a run has saved.

    Args:
        source: what a person calls the file.
        loader: of PyYAML; its BaseLoader leaves all values as they are written.
    Raises:
        UsageError: the file is missing, not YAML, not a mapping, or names a key twice.
    """
    source = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{path} cannot be read as a settings file: {why}.", "check the path") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.load(text, Loader=loader) or {}
    except yaml.YAMLError as error:
        raise UsageError(_yaml_fault(path, error)) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings: the top level must be keys and values.")
    lines = dict(_lines(root, source)) if root else {}
    if set(values) == {"settings", "sources", "versions"}:  # as a run saves them
        values = values["settings"]
        lines = {key.removeprefix("settings."): line for key, line in lines.items() if key.startswith("settings.")}
    sections = {key: value for key, value in values.items() if value is not None or "." in str(key)}
    return Layer(source, dict(flatten({str(k): v for k, v in sections.items()})), lines)


def _yaml_fault(path: Path, error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"{path} is not valid YAML: {' '.join(str(error).split())}."
    return f"{path}:{mark.line + 1}: this is not valid YAML: {problem}."


def _lines(node: yaml.Node, source: str, prefix: str = "") -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
        if key in seen:
            raise UsageError(f"{source}:{line}: {key} is given twice, first on line {seen[key]}.", "keep one of them")
        seen[key] = line
        yield key, line
        yield from _lines(value_node, source, f"{key}.")


RECIPES = ("voco_cli.config", "recipes")
TASKS = ("voco_cli.tasks", "presets")
BESIDE_PRESET = ("data.file", "data.root", "task.table")
"""Paths that a task file gives from its own folder, so that it can lie beside its data."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return _shipped(RECIPES)


def task_names() -> list[str]:
    """Return the names of the task presets that come with the package."""
    return _shipped(TASKS)


def recipe_layer(name: str) -> Layer:
    """Return the values of a recipe of the package, or of a recipe file.

    Raises:
        UsageError: neither a known name nor a file.
    """
    return _named_layer(name, "recipe", RECIPES)


def task_layer(name: str) -> Layer:
    """Return the values of a task preset of the package, or of a task file, whose data paths start at its folder.

    Raises:
        UsageError: neither a known name nor a file.
    """
    layer = _named_layer(name, "task", TASKS)
    layer = Layer(layer.source, {"run.dir": "runs/finetune", **layer.values}, layer.lines)
    if name in task_names():
        return layer
    folder = Path(name).resolve().parent
    named = {key: layer.values.get(key) for key in BESIDE_PRESET}
    beside = {key: str(folder / name) for key, name in named.items() if isinstance(name, str) and name}
    if "task.table" in beside and not os.path.isfile(beside["task.table"]):  # noqa: PTH113 (bears any name)
        beside.pop("task.table", None)  # it lies in the data folder, then
    split = str(layer.values.get("task.split") or "")
    if split.endswith(".json"):
        beside["task.split"] = str(folder / split)
    return Layer(layer.source, {**layer.values, **beside}, layer.lines)


def _shipped(place: tuple[str, str]) -> list[str]:
    folder = resources.files(place[0]) / place[1]
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _named_layer(name: str, kind: str, place: tuple[str, str]) -> Layer:
    names = _shipped(place)
    if name in names:
        with resources.as_file(resources.files(place[0]) / place[1] / f"{name}.yaml") as path:
            return yaml_layer(path, source=f"{kind} {name}")
    if name.endswith((".yaml", ".yml")):
        return yaml_layer(Path(name))
    raise UsageError(f"There is no {kind} {name!r}.", f"use one of {', '.join(names)}, or a YAML file")
