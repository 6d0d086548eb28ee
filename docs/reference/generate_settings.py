"""Write docs/reference/settings.md from the settings model and the recipes.

Usage: python docs/reference/generate_settings.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import write_atomic
from voco_cli.config import Settings, load_settings, recipe_names
from voco_cli.config.load import ENV_PREFIX
from voco_cli.config.sources import flatten
from voco_cli.document.blocks import Column, Table
from voco_cli.document.markdown import to_markdown

PAGE = Path(__file__).with_name("settings.md")
RECIPES = tuple(recipe_names())
COUNTS = {2: "two", 3: "three"}
WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "path": "path",
    "boolean": "`true`, `false`",
    "null": "none",
    "object": "mapping",
}
ITEMS = {
    "LabelClass": "task.classes",
    "LabelRegion": "task.regions",
    "Layout": "task.layouts",
    "TumourSize": "task.tumours.sizes",
    "OrganContrast": "task.tumours.rules.organ_contrasts",
    "ClassThreshold": "objective.pseudo.thresholds",
}
"""Models that stand in lists, and the settings that are such lists; regions of an objective are as those of a task."""
Schema = Mapping[str, Any]

HEAD = """# Settings

This page is made from the settings model by `make docs`; a test fails where it is out of date.

Every command reads the same settings. Strongest first:

1. `--set train.steps=100` (repeatable) and the command's own options, such as `--steps 100`; both must agree
2. the file that `--config` names
3. environment variables
4. the recipe (`--recipe`), or for labelled tasks the task preset (`--task`)
5. the defaults below

`voco config show` prints the usual settings with their sources (`--all`: every one), `voco config schema` the JSON
schema, and `voco config init` writes a commented file. A key that is not known is refused, with the nearest one that
is; all faults are told together.

**Environment.** A setting `section.name` is the variable `{prefix}SECTION__NAME`, with two underscores between section
and name: `{prefix}TRAIN__STEPS=100`, `{prefix}RUN__DEVICE=cpu`. `seed` and `recipe` stand in no section, so that they
are `{prefix}SEED` and `{prefix}RECIPE`. `{prefix}DATA` is `data.root`.

**Values** are written as in YAML; `null` is none. Sizes may be given as `96x96x96` or `[96, 96, 96]`, always in the
order x, y, z of the volume in RAS orientation; intervals as `[-175, 250]` or `-175,250`. In a shell, put values with
brackets in quotes.
"""

CHANGES = """## What the recipes change

Empty is the default. Why the recipes differ: [recipes.md](../concepts/recipes.md).
"""


def settings_page() -> str:
    """Return the whole page."""
    schema = Settings.model_json_schema()
    plain = {key: info for key, info in schema["properties"].items() if "$ref" not in info}
    parts = [HEAD.format(prefix=ENV_PREFIX), _section("General", "", plain)]
    for name, info in schema["properties"].items():
        if "$ref" in info:
            parts += _sections(schema, name, info)
    for name, items in ITEMS.items():
        definition = schema["$defs"][name]
        title = f"An item of `{items}`"
        parts.append(_section(title, definition["description"].splitlines()[0], definition["properties"]))
    return "\n".join([*parts, CHANGES, _recipes()]) + "\n"


def _sections(schema: Schema, key: str, info: Schema) -> Iterator[str]:
    """A section and those inside it; one that holds nothing but sections has no table of its own."""
    properties = _of(schema, info)
    own = {name: one for name, one in properties.items() if "$ref" not in one}
    if own:
        yield _section(f"`{key}`", info["description"], own, f"{key}.")
    for name, one in properties.items():
        if "$ref" in one:
            yield from _sections(schema, f"{key}.{name}", one)


def _of(schema: Schema, info: Schema) -> Schema:
    properties: Schema = schema["$defs"][info["$ref"].rpartition("/")[2]]["properties"]
    return properties


def _section(title: str, about: str, properties: Schema, prefix: str = "") -> str:
    sentence = f"{about[0].upper()}{about[1:].rstrip('.')}.\n\n" if about else ""
    rows = (
        (f"`{prefix}{name}`", in_words(info), _default(info), _linked(info.get("description", "")))
        for name, info in properties.items()
    )
    return f"## {title}\n\n{sentence}{_table(('setting', 'type', 'default', 'what it is'), rows)}"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    return to_markdown([Table.of("", [*map(Column, head)], list(rows))])


def in_words(info: Schema) -> str:
    """Return the type of a setting as a person would say it, from its JSON schema."""
    if "anyOf" in info:
        return ", or ".join(in_words(one) for one in info["anyOf"])
    if "enum" in info or "const" in info:
        return ", ".join(f"`{value}`" for value in info.get("enum", [info.get("const")]))
    if info["type"] == "array":
        return _list_in_words(info)
    kind = "path" if info.get("format") == "path" else info["type"]
    return ", ".join([WORDS[kind], *_range(info)])


def _list_in_words(info: Schema) -> str:
    item = info["prefixItems"][0] if "prefixItems" in info else info["items"]
    if "$ref" in item:
        key = ITEMS[item["$ref"].rpartition("/")[2]]
        return f"list of [{key.rpartition('.')[2]}](#an-item-of-{key.replace('.', '')})"
    if "const" in item or "enum" in item:
        return f"list of {in_words(item)}"
    least, most = info.get("minItems", 0), info.get("maxItems")
    count = "list of" if most is None else COUNTS[most] if least == most else f"{COUNTS[least]} or {COUNTS[most]}"
    return ", ".join([f"{count} {WORDS[item['type']]}s", *(f"each {limit}" for limit in _range(item))])


def _range(info: Schema) -> Iterator[str]:
    """Yield the limits of a number in words; nothing where there are none."""
    if info["type"] not in ("integer", "number"):
        return
    least = "at least 1" if info["type"] == "integer" else "above 0"  # where the minimum is excluded, it is 0
    if "minimum" in info:
        least = f"at least {info['minimum']:g}"
    if "maximum" in info:
        yield f"{least.removeprefix('at least ')} to {info['maximum']:g}"
    elif "exclusiveMaximum" in info:
        yield f"{least}, below {info['exclusiveMaximum']:g}"
    elif "minimum" in info or "exclusiveMinimum" in info:
        yield least


def _default(info: Schema) -> str:
    return _shown(info["default"]) if "default" in info else "must be given"


def _shown(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def _linked(description: str) -> str:
    return re.sub(r"docs/((?:guides|concepts)/(\w+\.md))", r"[\2](../\1)", description)


def _recipes() -> str:
    default = _flat(Settings())
    by_recipe = {recipe: _flat(load_settings(recipe).settings) for recipe in RECIPES}
    rows = (
        [f"`{key}`", _shown(value), *(_changed(settings[key], value) for settings in by_recipe.values())]
        for key, value in default.items()
        if key != "recipe" and any(settings[key] != value for settings in by_recipe.values())
    )
    return _table(("setting", "default", *(f"`{recipe}`" for recipe in RECIPES)), rows)


def _flat(settings: Settings) -> dict[str, Any]:
    """Return dotted key to value, as JSON has it."""
    return dict(flatten(settings.model_dump(mode="json")))


def _changed(value: Any, default: Any) -> str:
    return "" if value == default else _shown(value)


if __name__ == "__main__":
    write_atomic(PAGE, settings_page().encode())
    print(f"wrote {PAGE}")
