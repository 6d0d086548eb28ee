"""docs/reference/settings.md is what the settings model says today."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.docs.pages import ROOT
from voco_cli.config import Settings, load_settings, recipe_names
from voco_cli.config.load import field_descriptions, leaves

REFERENCE = ROOT / "docs" / "reference"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_settings", REFERENCE / "generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    """The cells of each setting's first row."""
    found: dict[str, list[str]] = {}
    for line in (REFERENCE / "settings.md").read_text().splitlines():
        if line.startswith("| `"):
            key, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            found.setdefault(key.strip("`"), cells)
    return found


def test_the_page_is_up_to_date() -> None:
    told = "docs/reference/settings.md is out of date: make docs"
    assert generator().settings_page() == (REFERENCE / "settings.md").read_text(), told


def test_every_setting_stands_in_the_page_with_type_default_and_description() -> None:
    page = rows()
    for key, description in field_descriptions():
        kind, default, told = page[key]
        assert kind
        assert default
        assert told.split("docs/")[0][:20] == description[:20] != ""


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "whole number, at least 1"),
        ({"type": "integer", "minimum": 3, "maximum": 7}, "whole number, 3 to 7"),
        ({"type": "number", "exclusiveMinimum": 0.0, "maximum": 1}, "number, above 0 to 1"),
        ({"type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0}, "number, at least 0, below 1"),
        ({"type": "number", "minimum": -1, "maximum": 1}, "number, -1 to 1"),
        ({"type": "number"}, "number"),
        ({"enum": ["a", "b"], "type": "string"}, "`a`, `b`"),
        ({"anyOf": [{"format": "path", "type": "string"}, {"type": "null"}]}, "path, or none"),
        (
            {
                "type": "array",
                "prefixItems": [{"type": "integer", "exclusiveMinimum": 0}] * 3,
                "minItems": 3,
                "maxItems": 3,
            },
            "three whole numbers, each at least 1",
        ),
        ({"type": "array", "items": {"type": "string"}}, "list of texts"),
    ],
)
def test_types_in_words(info: dict[str, object], words: str) -> None:
    assert generator().in_words(info) == words


@pytest.mark.parametrize("recipe", recipe_names())
def test_the_last_table_says_what_a_recipe_changes(recipe: str) -> None:
    text = (REFERENCE / "settings.md").read_text()
    head, _, *lines = text[text.index("## What the recipes change") :].split("| setting")[1].splitlines()
    at = [cell.strip(" `") for cell in head.split("|")].index(recipe)
    cells = [line.split("|")[1:] for line in lines if line]
    told = {line[0].strip(" `") for line in cells if line[at].strip()}
    default = dict(leaves(Settings()))
    changed = {key for key, value in leaves(load_settings(recipe).settings) if value != default[key]} - {"recipe"}
    assert told == changed
