"""Which cases of a public set a collection trains on, by the names of their files within the set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Literal

from voco_cli.data.collections.schema import Collection, Member, Split
from voco_cli.data.index.patients import IMPERSONAL, stem_of

FIRST_CHANNEL = "_0000"

Untold = Literal["", "no set", "whole set", "not listed"]


@dataclass(frozen=True)
class TrainedCases:
    """Cases of one public set, and what a collection says of them.

    Attributes:
        trained: those that its lists name among the images that are trained on.
        aside: those that a list of the set names, and that are not trained on.
        untold: those of which it says nothing.
        reason: why not: the set is not said, it is taken as a whole and its scans are not known by name, or no list of
            the set has their names.
    """

    trained: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    reason: Untold = ""

    @property
    def is_of_other_set(self) -> bool:
        """Return whether the collection does not take the set of these cases at all."""
        return not (self.trained or self.aside or self.untold)


def case_in_set(path: PurePath) -> str:
    """Return what a set calls the scan of a file: the name without ending and nnU-Net's first channel.

    Where that says what it is and not whose (``s1405/ct.nii.gz``), it is the name of the folder.
    """
    stem = stem_of(path).removesuffix(FIRST_CHANNEL)
    impersonal = IMPERSONAL.fullmatch(stem)
    nameless = impersonal is not None and impersonal["number"] is None
    return path.parent.name if nameless and path.parent.name else stem


def trained_cases(collection: Collection, public_set: str | None, cases: Mapping[str, PurePath]) -> TrainedCases:
    """Tell which cases a collection trains on.

    Names are compared letter by letter, within the set alone: a name of another set tells nothing.

    Args:
        public_set: that the cases are of; none where nobody says.
        cases: name of each case to its file.
    """
    if public_set is None:
        return TrainedCases(untold=tuple(cases), reason="no set")
    member = collection.member(public_set)
    if member is None or not member.training:
        return TrainedCases()
    if not member.is_named:
        return TrainedCases(untold=tuple(cases), reason="whole set")
    trained = _names(member, member.training)
    aside = _names(member, tuple(member.set.cases)) - trained
    names = {case: case_in_set(file) for case, file in cases.items()}
    untold = tuple(case for case, name in names.items() if name not in trained and name not in aside)
    return TrainedCases(
        trained=tuple(case for case, name in names.items() if name in trained),
        aside=tuple(case for case, name in names.items() if name in aside),
        untold=untold,
        reason="not listed" if untold else "",
    )


def _names(member: Member, splits: tuple[Split, ...]) -> set[str]:
    return {case_in_set(PurePosixPath(path)) for split in splits for path in member.set.cases[split]}
