"""A public set with the scans that are listed of it, and a collection of such sets, as their YAML files have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from voco_cli.data.index.datalist import SPLITS
from voco_cli.foreign_text import quoted

Split = Literal["training", "validation", "test"]
LONGEST_PATH = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def _relative(path: str) -> str:
    """Return a path below a folder as one writes it plainly; refuse one that leaves the folder."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or ":" in path or not parts:
        raise ValueError(f"{quoted(path)} is no path below the folder of the data")
    if len(path) > LONGEST_PATH or any(letter < " " or letter == "\x7f" for letter in path):
        raise ValueError(f"{quoted(path)} is no name of a file")
    return "/".join(parts)


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{quoted(name)} is no name: letters, digits, dots, hyphens and underscores make one")
    return name


RelativePath = Annotated[str, AfterValidator(_relative)]
Name = Annotated[str, AfterValidator(_name)]


class PublicSet(BaseModel):
    """A set of scans that somebody gives away, and which of them are listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="short name, as a task has it in task.public_set")
    title: str = Field("", description="full name")
    where: str = Field("not known here", description="where it is to be had")
    terms: str = Field("see the set's page", description="on which terms")
    folders: tuple[RelativePath, ...] = Field((), description="folders that it may lie in; the first is the expected")
    modality: Literal["CT", "MR", "PT"] = Field("CT", description="of all its scans")
    listed: dict[Split, NonNegativeInt] = Field(default_factory=dict, description="how many scans are listed, by split")
    cases: dict[Split, tuple[RelativePath, ...]] = Field(
        default_factory=dict, description="files that are listed, by split, from the set's folder"
    )
    cases_file: RelativePath | None = Field(
        None, description="JSON file beside this one, .gz or not, that has such cases under the set's name"
    )
    notes: tuple[str, ...] = Field((), description="what a user of the set should know")

    @model_validator(mode="after")
    def _counts_are_those_of_the_names(self) -> Self:
        names = [path for paths in self.cases.values() for path in paths]
        twice = [path for path, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"{quoted(twice[0])} is listed twice")
        for split, paths in self.cases.items():
            if self.listed.get(split, len(paths)) != len(paths):
                raise ValueError(f"{self.listed[split]} {split} scans are counted, and {len(paths)} are named")
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """Return the folders that it may lie in, the expected one first."""
        return tuple(dict.fromkeys((*self.folders, self.name)))

    def count(self, splits: tuple[Split, ...]) -> int | None:
        """Return how many scans of some splits are listed; None where that is not known."""
        counts = {**self.listed, **{split: len(paths) for split, paths in self.cases.items()}}
        return sum(counts.get(split, 0) for split in splits) if counts or not splits else None


class Member(BaseModel):
    """A set of a collection, and what its splits are there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: PublicSet = Field(description="name of a set that comes with the package, or a set in full")
    training: tuple[Split, ...] = Field(("training",), description="splits of the set that are trained on")
    validation: tuple[Split, ...] = Field(("validation",), description="splits of the set that are looked at")
    test: tuple[Split, ...] = Field(("test",), description="splits of the set that are left aside")
    note: str = Field("", description="what is odd about it here")

    @model_validator(mode="after")
    def _a_split_has_one_role(self) -> Self:
        twice = [one for one, n in Counter((*self.training, *self.validation, *self.test)).items() if n > 1]
        if twice:
            raise ValueError(f"the {twice[0]} scans of {self.set.name} have two roles")
        return self

    def files(self) -> Iterator[tuple[Split, str]]:
        """Yield the role of each scan that the collection takes of the set, and its path from the set's folder."""
        for role in SPLITS:
            for split in getattr(self, role):
                for path in self.set.cases.get(split, ()):
                    yield role, path

    @property
    def is_named(self) -> bool:
        """Return whether the scans that are trained on are known by name."""
        return all(split in self.set.cases for split in self.training)


class Collection(BaseModel):
    """Sets that one pre-training was made on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="short name")
    title: str = Field("", description="full name")
    source: str = Field("", description="where this is known from")
    notes: tuple[str, ...] = Field((), description="what a user of the collection should know")
    sets: tuple[Member, ...] = Field(min_length=1, description="its sets")

    @model_validator(mode="after")
    def _a_set_stands_once(self) -> Self:
        twice = [name for name, count in Counter(member.set.name for member in self.sets).items() if count > 1]
        if twice:
            raise ValueError(f"the set {twice[0]} stands there twice")
        return self

    def count(self, role: Split) -> int:
        """Return how many scans are listed for a role; sets of which that is not known count none."""
        return sum(member.set.count(getattr(member, role)) or 0 for member in self.sets)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Return the sets whose scans are trained on and not known by name."""
        return tuple(member.set.name for member in self.sets if not member.is_named)

    def member(self, public_set: str) -> Member | None:
        """Return what it takes of a set; None where it names none of that name."""
        return next((member for member in self.sets if member.set.name == public_set), None)
