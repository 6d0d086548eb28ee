"""Evaluated cases that were in a collection which weights of others were trained on, and how that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from voco_cli.data.collections.catalogue import load_collection
from voco_cli.data.collections.trained import TrainedCases, trained_cases
from voco_cli.data.index.trained_on import ScanIdentity, TrainingCollection
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named

MOST_NAMED = 3
OTHER_NAMES = "; sets that were gathered from others may hold them under other names"


@dataclass(frozen=True)
class CollectionFinding:
    """What a collection tells of evaluated cases.

    Attributes:
        seen: the weights, and how it is known that they were trained on it.
        public_set: that the cases are of; none where the task does not say.
        cases: what it tells of them.
        evaluated: number of cases.
        source: where it is known from what the collection holds; empty where nothing says.
        fault: why the collection cannot be read any more; empty where it can.
    """

    seen: TrainingCollection
    public_set: str | None
    cases: TrainedCases
    evaluated: int
    source: str = ""
    fault: str = ""

    @property
    def trained(self) -> tuple[str, ...]:
        """Return the cases that are named among the images of the training."""
        return self.cases.trained

    @property
    def untold(self) -> bool:
        """Return whether there are cases of which nothing is known."""
        return bool(self.evaluated and (self.fault or self.cases.untold or self._may_be_besides))

    @property
    def clean(self) -> bool:
        """Return whether all cases are known not to be among the images of the training."""
        return not self.trained and not self.untold

    @property
    def _may_be_besides(self) -> bool:
        return bool(self.seen.besides) and len(self.trained) < self.evaluated

    def sentence(self) -> str:
        """Return what a terminal and a table say of it, with how it is known."""
        if self.fault:
            return f"{self._cannot_tell()}: {self.fault}"
        if self.trained:
            return f"{self._leak()} {self._known()}"
        if self.untold:
            return f"{self._cannot_tell()}: {self.seen.weights} was pre-trained on {self._doubt()}. {self._known()}"
        weights, cases = f"the pre-training of {self.seen.weights}", f"{self.evaluated} evaluated cases"
        if self.cases.is_of_other_set:
            none = f"{cases} are of the set {self.public_set}, which {weights} ({self.seen.collection}) does not name"
        else:
            none = f"none of {cases} was among the images of {weights} ({self._place()}), by their names in the set"
        return f"Data leakage: {none}{OTHER_NAMES}. {self._known()}"

    def found_object(self) -> dict[str, Any]:
        """Return the cases that were found, as those that are found in other ways stand in summary.json."""
        return {
            "by": "name",
            "stage": "pre-training",
            "dataset": self.seen.collection,
            "surely": self.seen.surely,
            "cases": list(self.trained),
        }

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON holds it."""
        lists = {name: list(getattr(self.cases, name)) for name in ("trained", "aside", "untold")}
        return {
            "weights": self.seen.weights,
            "collection": self.seen.collection,
            "evidence": self.seen.evidence,
            "surely": self.seen.surely,
            "labels": self.seen.labels,
            "besides": self.seen.besides,
            "source": self.source,
            "public_set": self.public_set,
            **lists,
            "reason": self.fault or self.cases.reason,
        }

    def _place(self) -> str:
        return f"{self.seen.collection}, set {self.public_set}"

    def _cannot_tell(self) -> str:
        return f"Leakage of {self.evaluated} evaluated cases cannot be ruled out"

    def _leak(self) -> str:
        which = "all" if len(self.trained) == self.evaluated else f"{len(self.trained)} of"
        cases = f"{which} {self.evaluated} evaluated cases {'was' if len(self.trained) == 1 else 'were'}"
        cases = "the evaluated case was" if self.evaluated == 1 else cases
        labels = f"; {self.seen.labels}" if self.seen.labels else ""
        what = (
            f"among the images of the pre-training of {self.seen.weights} ({self._place()}), by their names in the set"
        )
        leak = f"Data leakage: {cases} {what}: {named(self.trained, MOST_NAMED)}{labels}."
        return f"{leak} The others cannot be ruled out: it was pre-trained on {self._doubt()}." if self.untold else leak

    def _doubt(self) -> str:
        """Return what it was pre-trained on, and why that tells nothing of some cases."""
        reasons = {
            "no set": "and the task does not say which public set its cases are of (task.public_set)",
            "whole set": f"with the set {self.public_set} as a whole, of which no names are known",
            "not listed": f"and no list of the set {self.public_set} has {named(self.cases.untold, MOST_NAMED)}",
        }
        besides = f"and on {self.seen.besides}, of which no names are known"
        return f"{self.seen.collection}, {reasons.get(self.cases.reason, besides)}"

    def _known(self) -> str:
        """Return how all this is known."""
        doubt = "" if self.seen.surely else " (other weights may be alike)"
        read = f"; what is in {self.seen.collection}: {self.source}" if self.source else ""
        return f"What the file was trained on is known by {self.seen.evidence}{doubt}{read}."


def finding_of(
    seen: TrainingCollection, public_set: str | None, evaluated: Sequence[ScanIdentity]
) -> CollectionFinding:
    """Return what a collection that weights were trained on tells of evaluated cases.

    Args:
        public_set: that the cases are of, as the task says it.
        evaluated: scans that are evaluated; the first channel of a case stands for it.
    """
    files = {scan.case: scan.file for scan in reversed(evaluated)}
    cases = {case: files[case] for case in dict.fromkeys(scan.case for scan in evaluated)}
    try:
        collection = load_collection(seen.collection)
    except UsageError as error:
        what = f"{seen.weights} was pre-trained on {seen.collection}, and {error.message}"
        return CollectionFinding(seen, public_set, TrainedCases(), len(cases), fault=what)
    told = trained_cases(collection, public_set, cases)
    return CollectionFinding(seen, public_set, told, len(cases), collection.source)
