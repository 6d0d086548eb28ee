"""Collections and sets: those that come with the package, and those of YAML files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from voco_cli.data.collections.schema import Collection, PublicSet
from voco_cli.errors import UsageError
from voco_cli.foreign_text import quoted, shortened

PLACE = resources.files("voco_cli.data.collections")
COLLECTIONS, SETS = PLACE / "named", PLACE / "sets"
SHIPPED_LISTS = "lists.json.gz"
ENDINGS = (".yaml", ".yml")
LARGEST_LIST_BYTES = 2**28
"""160,000 names of 100 letters are 16 MB."""
LONGEST_REASON = 300
Kind = TypeVar("Kind", bound=BaseModel)


def collection_names() -> list[str]:
    """Return the names of the collections that come with the package."""
    return _names(COLLECTIONS)


def set_names() -> list[str]:
    """Return the names of the public sets that come with the package."""
    return _names(SETS)


def load_collection(name: str) -> Collection:
    """Return a collection of the package, or that of a YAML file; a single set is a collection of that set.

    Raises:
        UsageError: neither, or the file is not as it should be.
    """
    if name in collection_names() or name in set_names():
        return _shipped(name)
    if not name.endswith(ENDINGS):
        known = ", ".join(collection_names())
        raise UsageError(
            f"There is no collection {quoted(name)}.", f"use one of {known}, a set of theirs, or a YAML file"
        )
    return _collection(_mapping(Path(name), name), Path(name).parent, name)


@cache
def _shipped(name: str) -> Collection:
    folder = COLLECTIONS if name in collection_names() else SETS
    return _collection(_mapping(folder / f"{name}.yaml", name), folder, name)


@cache
def _shipped_set(name: str) -> PublicSet:
    return _set(_mapping(SETS / f"{name}.yaml", name), SETS, name)


def _collection(raw: Mapping[str, Any], folder: Traversable, origin: str) -> Collection:
    """Return the collection of a file.

    Args:
        folder: of the file; lists of names may lie in it.
        origin: what to call the file.
    """
    if "sets" not in raw:
        found = _set(raw, folder, origin)
        return Collection.model_validate({"name": found.name, "title": found.title, "sets": [{"set": found}]})
    members = raw["sets"] if isinstance(raw["sets"], list) else [raw["sets"]]
    return _validated(Collection, {**raw, "sets": [_member(one, folder, origin) for one in members]}, origin)


def _member(raw: Any, folder: Traversable, origin: str) -> Any:
    """Return a set of a collection, with the set itself in place of its name."""
    named = raw.get("set") if isinstance(raw, dict) else None
    if isinstance(named, dict):
        return {**raw, "set": _set(named, folder, origin)}
    if isinstance(named, str):
        if named not in set_names():
            raise UsageError(
                f"{origin} names the set {quoted(named)}, which is none that comes with the package.",
                f"give it in full (name, folders, cases), or use one of {', '.join(set_names())}",
            )
        return {**raw, "set": _shipped_set(named)}
    return raw


def _set(raw: Mapping[str, Any], folder: Traversable, origin: str) -> PublicSet:
    found = _validated(PublicSet, raw, origin)
    if found.cases_file is None:
        return found
    file = folder / found.cases_file
    lists = _shipped_lists() if file == SETS / SHIPPED_LISTS else _lists(file)
    if not isinstance(lists, dict) or found.name not in lists:
        raise UsageError(f"{file} has no list of the set {found.name}, which {origin} looks for there.")
    return _validated(PublicSet, {**raw, "cases": lists[found.name]}, f"{file}, set {found.name}")


@cache
def _shipped_lists() -> Any:
    return _lists(SETS / SHIPPED_LISTS)


def _lists(file: Traversable) -> Any:
    """Read a JSON file of names by set and split, which may be packed by gzip."""
    try:
        content = file.read_bytes()
        if file.name.endswith(".gz"):
            unpacker = zlib.decompressobj(wbits=31)
            content = unpacker.decompress(content, LARGEST_LIST_BYTES)
            if not unpacker.eof:
                raise ValueError("it is cut off, or far too large for a list of names")
        return json.loads(content)
    except (OSError, ValueError, zlib.error, RecursionError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise UsageError(f"{file} cannot be read as a list of names: {why}.") from error


def _mapping(file: Traversable, origin: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{origin} cannot be read as a collection: {why}.", "check the path") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{origin} holds no collection: the top level must be keys and values.")
    return raw


def _validated(model: type[Kind], raw: Mapping[str, Any], origin: str) -> Kind:
    """Return the model of a file's values; the first fault in one sentence."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        first = faults[0]
        place = ".".join(map(str, first["loc"]))
        reason = shortened(first["msg"].removeprefix("Value error, "), LONGEST_REASON)
        more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
        raise UsageError(f"{origin}: {f'{place}: ' if place else ''}{reason}{more}.") from error


def _names(folder: Traversable) -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
