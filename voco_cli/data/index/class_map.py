"""The rules by which the classes of several data sets become one list (``voco index --class-map FILE.yaml``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import quoted

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
LabelValue = Annotated[int, Field(ge=1, le=65_535)]
HINT = "docs/guides/omni.md has an example"


class ClassMap(BaseModel):
    """What classes of data sets are called, which are the same, and which lie inside others.

    A name of one set alone is written ``SET/NAME``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: dict[str, dict[LabelValue, str]] = Field(
        default_factory=dict, description="set to its label values and their names, where no file says them"
    )
    synonyms: dict[str, Names] = Field(default_factory=dict, description="class to the names that mean it")
    unions: dict[str, Names] = Field(
        default_factory=dict, description="class to all its parts: who labels the parts has labelled it"
    )
    regions: dict[str, Names] = Field(
        default_factory=dict, description="class to those inside it: its voxels are also those of what lies inside"
    )
    same: Names = Field((), description="names that mean the same in every set, though another class might lie inside")
    leave_out: Names = Field((), description="classes that nobody learns; what they lie inside is learned with them")

    @property
    def mentioned(self) -> list[str]:
        """Return every name of a class in the map, once."""
        groups = (self.synonyms, self.unions, self.regions)
        whole = [name for group in groups for key, names in group.items() for name in (key, *names)]
        given = [name for values in self.names.values() for name in values.values()]
        return list(dict.fromkeys([*whole, *self.same, *self.leave_out, *given]))

    def merged_name(self, label_set: str, name: str) -> str:
        """Return what a name of a set is called in the merged list."""
        keys = (f"{label_set}/{name}", name)
        return next((to for key in keys for to, names in self.synonyms.items() if key in names), name)

    def leaves_out(self, label_set: str, name: str) -> bool:
        """Return whether nobody learns a name of a set: what it is called in the merged list, or ``SET/NAME``."""
        merged = self.merged_name(label_set, name)
        return bool({merged, f"{label_set}/{merged}", f"{label_set}/{name}"} & set(self.leave_out))

    def inside(self) -> dict[str, tuple[str, ...]]:
        """Return the classes inside each class, by unions and regions."""
        both = [*self.unions.items(), *self.regions.items()]
        return {
            whole: tuple(dict.fromkeys(n for key, names in both if key == whole for n in names)) for whole, _ in both
        }


def read_class_map(path: Path) -> ClassMap:
    """Read a class map.

    Raises:
        DataError: no such file, or it is not YAML.
        UsageError: a key that it does not have, one name for two classes, or a class inside itself.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
        raise DataError(f"{path} cannot be read as a class map: {why}.", "check the path") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict) or not raw:
        raise UsageError(f"{path} names nothing: a class map has {', '.join(ClassMap.model_fields)}.", HINT)
    try:
        class_map = ClassMap.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{path} is no class map: {_fault(error)}.", HINT) from error
    _refuse_contradictions(class_map, path)
    return class_map


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"
    near = difflib.get_close_matches(place, ClassMap.model_fields, 1, 0.5)
    return f"{quoted(place)} is not a key" + (f", did you mean {near[0]}?" if near else "")


def _refuse_contradictions(class_map: ClassMap, path: Path) -> None:
    """Raise a UsageError if a name means two classes, or a class lies inside itself."""
    owner: dict[str, str] = {}
    for to, names in class_map.synonyms.items():
        for name in names:
            if owner.setdefault(name, to) != to:
                raise UsageError(f"{path} makes {quoted(name)} both {owner[name]} and {to}.", "keep one of them")
    inside = class_map.inside()
    for whole in inside:
        if whole in all_inside(whole, inside):
            raise UsageError(f"{path} puts {quoted(whole)} inside itself.", "mend its unions and regions")


def all_inside(whole: str, inside: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what lies inside a class, at any depth."""
    found: dict[str, None] = {}
    waiting = list(inside.get(whole, ()))
    while waiting:
        part = waiting.pop(0)
        if part not in found:
            found[part] = None
            waiting += inside.get(part, ())
    return list(found)
