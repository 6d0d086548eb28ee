"""Settings as text: the commented file that a user starts from, and the file that a run keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from voco_cli.settings.sources import Resolved


def commented_file(resolved: Resolved) -> str:
    """A settings file with every key, its description and its value commented out, ready to be edited."""
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
            yield f"\n# {info.description}\n{name}:"
            yield from _commented(value, "  ")
        elif name != "recipe" and not info.exclude:
            is_base = name == "preset" and value is not None
            yield f"{indent}# {info.description}"
            yield f"{indent}{'' if is_base else '# '}{name}: {json.dumps(plain[name], ensure_ascii=False)}"


def saved_file(resolved: Resolved, versions: Mapping[str, str]) -> str:
    """What a run keeps: all values, where each came from, and the versions it ran with."""
    content = {
        "settings": resolved.settings.model_dump(mode="json"),
        "sources": {key: source for key, source in resolved.sources.items() if source != "default"},
        "versions": dict(versions),
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
