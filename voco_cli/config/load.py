"""From flags, files, environment and recipe to one validated model, with the source of every value."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from voco_cli.config.sources import (
    Layer,
    flatten,
    merge,
    nest,
    recipe_layer,
    recipe_names,
    task_layer,
    task_names,
    yaml_layer,
)
from voco_cli.config.validation import Settings, field_descriptions
from voco_cli.errors import UsageError
from voco_cli.foreign_text import blanked

__all__ = ["Resolved", "field_descriptions", "load_settings", "read_saved", "recipe_names", "task_names"]

ENV_PREFIX = "VOCO_"
TYPED_ONLY = {"model.trust_pickle": "--trust-pickle"}
"""Settings that no file, environment or --set may give: whoever sends a file would trust it in the user's place."""
LIKE_ENOUGH = 1.0
"""Sum of two likenesses, of whole keys and of their last parts, from which a key is worth suggesting."""


@dataclass(frozen=True)
class Resolved:
    """Settings, and for every key the source its value came from."""

    settings: Settings
    sources: Mapping[str, str]


class _Environment(BaseSettings):
    """The names of environment variables: it lends pydantic-settings the fields of Settings, and is never made."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", enable_decoding=False)


_FIELDS: dict[str, Any] = {name: (info.annotation, info) for name, info in Settings.model_fields.items()}
_EnvironmentSettings = create_model("_EnvironmentSettings", __base__=_Environment, **_FIELDS)


def load_settings(
    recipe: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> Resolved:
    """Gather and validate the settings of a command.

    Args:
        recipe: name or path given by ``--recipe``.
        config: settings file given by ``--config``.
        overrides: ``key=value`` as given to ``--set``.
        flags: dotted key to value of the command's own flags; a value of None counts as not given.
        task: name or path given by ``--task``; the settings then start from it, and from no recipe.
    Returns:
        the settings; strongest source first: flags and ``--set``, file, environment, recipe or task, defaults.
    Raises:
        UsageError: all that is wrong, each with its place and, for an unknown key, the nearest known one.
    """
    given = {
        key: value
        for key, value in {**(flags or {}), "recipe": recipe, "task.preset": task}.items()
        if value is not None
    }
    layers = [_override_layer(overrides), Layer("command line", given, is_typed=True)]
    if config is not None:
        layers.append(yaml_layer(config))
    layers.append(_environment_layer())
    values, _ = merge(layers)
    preset = values.get("task.preset")
    recipe = str(values.get("recipe", Settings.model_fields["recipe"].default))
    layers.append(recipe_layer(recipe) if preset is None else task_layer(str(preset)))
    return _resolve(layers)


def read_saved(path: Path, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings that a run has saved, as they were, whatever today's environment says.

    Args:
        overrides, flags: of the command that uses the run, as for `load_settings`; they go before what was saved.
    Raises:
        UsageError: the file is missing or no longer fits the model; or a value that is given now is wrong.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return _resolve(
        [_override_layer(overrides), Layer("command line", given, is_typed=True), yaml_layer(path)]
    ).settings


def read_resolved(path: Path) -> Resolved:
    """Return the settings that a run has saved, each with the source that it had then.

    Raises:
        UsageError: as `read_saved`.
    """
    settings = read_saved(path)
    saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    sources = saved.get("sources") or {} if isinstance(saved, dict) else {}
    return Resolved(settings, {key: str(sources.get(key, "default")) for key, _ in leaves(settings)})


def _resolve(layers: Sequence[Layer]) -> Resolved:
    _require_typed(layers)
    values, origin = merge(layers)
    sections = {key.rpartition(".")[0] for key, _ in field_descriptions()}
    values = {key: value for key, value in values.items() if value is not None or key not in sections}  # an empty one
    problems = dict(_misplaced(values, origin))
    try:
        settings = Settings.model_validate(nest({key: v for key, v in values.items() if key not in problems}))
    except ValidationError as error:
        # What values of their own are wrong is told; rules between them say nothing where some are missing.
        found = [problem for key, problem in _problems(error, origin) if key or not problems]
        raise _usage_error([*problems.values(), *found]) from error
    if problems:
        raise _usage_error([*problems.values()])
    sources = {key: origin[key].source if key in origin else "default" for key, _ in leaves(settings)}
    return Resolved(settings, sources)


def _require_typed(layers: Iterable[Layer]) -> None:
    """Raise if a layer gives what only a flag may give, even where a stronger layer takes it back."""
    for layer in layers:
        for key, flag in TYPED_ONLY.items():
            if not layer.is_typed and layer.values.get(key, False) is not False:
                raise UsageError(
                    f"{layer.place(key)}: {key} counts only where {flag} is typed.",
                    f"take it out, and give {flag} if you trust whoever made the weights",
                )


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every single setting."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _override_layer(overrides: Sequence[str]) -> Layer:
    values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {override!r} is not of the form key=value.", "for example --set train.steps=100")
        values[key.strip()] = _read_value(text, f"--set {override!r}")
    return Layer("--set", dict(flatten(values)))


def _read_value(text: str, place: str) -> Any:
    """Return a value as it would be read from a settings file: ``[4, 4]``, ``null``, ``1e-3``."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{place} has a value that cannot be read.") from error


def _environment_layer() -> Layer:
    values = dict(flatten(EnvSettingsSource(_EnvironmentSettings)()))
    if (root := values.pop("data", None)) is not None:  # VOCO_DATA, which the library takes for the whole section
        values["data.root"] = root
    for name in os.environ:
        # A section misspelt (VOCO_TRIAN__STEPS) is passed over by the library; a user would never notice.
        if name.startswith(ENV_PREFIX) and "__" in name:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            values.setdefault(key, os.environ[name])
    read = {key: _read_value(str(text), f"environment: {key}={text!r}") for key, text in values.items()}
    return Layer("environment", dict(flatten(read)))


def _misplaced(values: Mapping[str, Any], origin: Mapping[str, Layer]) -> Iterator[tuple[str, str]]:
    """Yield key and fault of sections given as a single value, and of single values given as sections."""
    known = [key for key, _ in field_descriptions()]
    for key in values:
        below = next((name for name in known if name.startswith(f"{key}.")), None)
        above = next((name for name in known if key.startswith(f"{name}.")), None)
        if below:
            yield key, f"{origin[key].place(key)}: {key} is a section of settings such as {below}, not a single value."
        elif isinstance(values[key], str) and "\0" in values[key]:
            yield key, f"{origin[key].place(key)}: {key} holds a character that no text has (NUL)."
        elif above:
            yield key, f"{origin[key].place(key)}: {above} is a single value, so {key} is not a setting."


def _usage_error(problems: Sequence[str]) -> UsageError:
    if len(problems) == 1:
        return UsageError(problems[0])
    return UsageError(f"{len(problems)} settings are wrong:\n" + "\n".join(f"  {problem}" for problem in problems))


def _problems(error: ValidationError, origin: Mapping[str, Layer]) -> Iterator[tuple[str, str]]:
    """Yield the key, empty for a rule between sections, and what is wrong with it."""
    known = dict(field_descriptions())
    wrong: dict[str, list[str]] = {}
    for details in error.errors():
        path = [str(part) for part in details["loc"]]
        if details["type"] == "extra_forbidden":
            yield from _unknown(".".join(path), origin, known)
            continue
        section = path[0] if path else ""
        while path and ".".join(path) not in known:  # indices and union branches below a field
            path.pop()
        message = _words(details["type"], details["msg"], known.get(".".join(path), ""))
        if not path and section:  # a rule within a section
            message = f"{_place_of_section(section, origin)}{message}"
        messages = wrong.setdefault(".".join(path), [])
        if message not in messages:
            messages.append(message)
    for key, messages in wrong.items():
        if not key:  # the rules between sections
            yield from (("", f"{part}.") for message in messages for part in message.split("; "))
            continue
        # Where one form of a value says what is wrong with its parts, another that misses parts adds nothing.
        telling = [message for message in messages if not message.endswith("after validation, not 0")] or messages
        words = " or ".join(message[0].lower() + message[1:] for message in telling)
        yield key, f"{origin[key].place(key)}: {key}: {words} (got {_short(origin[key].values[key])})."


def _words(kind: str, message: str, description: str) -> str:
    """Return what is wrong with a value, as a person would say it."""
    if kind == "missing":  # as every field has a default, it can only be an item of a tuple
        return "too few values"
    if kind == "path_type":
        return "it is no path"
    if kind in ("model_type", "model_attributes_type"):
        return "each item is a mapping of keys to values"
    if kind == "too_long":
        return message.partition(" after validation")[0].replace("Tuple should have", "there should be")
    if kind == "string_pattern_mismatch":
        return f"it is {description.rpartition(': ')[2]}"
    return message.removeprefix("Value error, ").partition(", unable to parse")[0]


def _place_of_section(section: str, origin: Mapping[str, Layer]) -> str:
    """Return where a section stands, for a rule between its fields: the strongest source that has a line of it."""
    layers = (layer for key, layer in origin.items() if key.startswith(f"{section}.") and section in layer.lines)
    layer = next(layers, None)
    return f"{layer.place(section)}: " if layer else ""


def _unknown(key: str, origin: Mapping[str, Layer], known: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in [name for name in origin if name == key or name.startswith(f"{key}.")]:
        near = nearest_key(name, known)
        advice = f"the nearest is {near}" if near else "`voco config show --all` lists all"
        yield name, f"{origin[name].place(name)}: {name} is not a setting; {advice}."


def nearest_key(name: str, known: Iterable[str]) -> str | None:
    """Return the known key that looks most like a name, its last part counting for itself: ``lr`` is ``train.lr``."""

    def likeness(key: str) -> float:
        pairs = ((name, key), (name.rpartition(".")[2], key.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    nearest = max(known, key=likeness)
    return nearest if likeness(nearest) >= LIKE_ENOUGH else None


def _short(value: Any) -> str:
    text = blanked(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def commented_file(resolved: Resolved) -> str:
    """Return a settings file with every key, its description and its value commented out, ready to be edited."""
    settings = resolved.settings
    base = "recipe" if settings.task.preset is None else "task"
    head = [
        f"# Settings of voco. Uncomment what you change; everything else comes from the {base}.",
        f"# Stronger than this file: --set key=value and flags. Weaker: VOCO_SECTION__KEY, the {base}, defaults.",
    ]
    if base == "recipe":
        head.append(f"recipe: {json.dumps(settings.recipe)}")
    return "\n".join([*head, *_commented(settings)]) + "\n"


def _commented(model: BaseModel, indent: str = "") -> Iterator[str]:
    plain: dict[str, Any] = model.model_dump(mode="json")
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield f"\n{indent}# {info.description}\n{indent}{name}:"
            yield from _commented(value, f"{indent}  ")
        elif name != "recipe" and not info.exclude:
            is_base = name == "preset" and value is not None
            yield f"{indent}# {info.description}"
            yield f"{indent}{'' if is_base else '# '}{name}: {json.dumps(plain[name], ensure_ascii=False)}"


def saved_file(resolved: Resolved, versions: Mapping[str, str]) -> str:
    """Return what a run keeps as YAML: all values, where each came from, and the versions it ran with."""
    content = {
        "settings": resolved.settings.model_dump(mode="json"),
        "sources": {key: source for key, source in resolved.sources.items() if source != "default"},
        "versions": dict(versions),
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
