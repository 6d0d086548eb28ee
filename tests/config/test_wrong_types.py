"""Every key of a task file with values of wrong types: each is accepted, or refused in one short sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from voco_cli.config import load_settings
from voco_cli.config.load import field_descriptions
from voco_cli.errors import UsageError

WRONG: tuple[Any, ...] = (-1, "nonsense", [[1]], {"x": {"y": 1}}, float("nan"), "x" * 3000, True, "a\0b", [None])
GOOD = {"task": {"classes": [{"name": "a", "values": 1}], "patch_size": [32, 32, 64]}}
KEYS = [key for key, _ in field_descriptions()]
SECTIONS = sorted({key.split(".")[0] for key in KEYS if "." in key})


def refusal(folder: Path, key: str, value: Any) -> str | None:
    section, _, name = key.partition(".")
    content: dict[str, Any] = {"task": dict(GOOD["task"])}
    if name:
        content.setdefault(section, {})[name] = value
    else:
        content[section] = value
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        load_settings(task=str(path))
    except UsageError as error:
        return error.message.replace(str(path), "task.yaml")
    return None


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_any_value_of_any_key_is_accepted_or_refused_in_one_short_sentence(value: Any, tmp_path: Path) -> None:
    for key in (*KEYS, *SECTIONS, "task.nonsense", "nonsense"):
        words = refusal(tmp_path, key, value)
        if words is not None:
            assert len(words) < 300, (key, words)
            assert "\n" not in words, (key, words)
            assert words.endswith("."), (key, words)
            assert "<class" not in words, (key, words)
            assert "instance of" not in words, (key, words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.file", -1, "task.yaml:2: data.file: it is no path (got -1)."),
        ("data.root", [1], "task.yaml:2: data.root: it is no path (got [1])."),
        ("task.table", True, "task.yaml:9: task.table: it is no path (got True)."),
        ("run.dir", "a\0b", "task.yaml:2: run.dir holds a character that no text has (NUL)."),
        ("task.classes", [1], "task.yaml:2: task.classes: each item is a mapping of keys to values (got [1])."),
        (
            "task.patch_size",
            [1] * 4,
            "task.yaml:5: task.patch_size: there should be at most 3 items (got [1, 1, 1, 1]).",
        ),
        ("model", 3, "task.yaml:1: model is a section of settings such as model.backbone, not a single value."),
    ],
)
def test_the_sentence(key: str, value: Any, words: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, key, value) == words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ignore_value": 1}, "ignore_value 1 belongs to a class"),
        ({"ignore_value": 2, "kind": "classification"}, "ignore_value 2 has no meaning for a classification"),
        ({"ignore_value": 0}, "should be greater than or equal to 1"),
    ],
)
def test_an_ignored_value_is_one_of_its_own(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({"task": {**GOOD["task"], **more}}))
    with pytest.raises(UsageError, match=words):
        load_settings(task=str(path))
