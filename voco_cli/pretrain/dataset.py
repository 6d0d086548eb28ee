"""From cached volumes to batches: what the loader processes do for any objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from voco_cli.errors import VocoError
from voco_cli.objectives.objective import Case, Sampler


class Drawn(NamedTuple):
    """What a case gives in a step."""

    name: str
    sample: Any


class PretrainingBatch(NamedTuple):
    """A step of one process: the names of its cases, and the batch as the objective collates it."""

    names: list[str]
    drawn: Any


class PretrainingDataset(Dataset[Drawn | VocoError]):
    """Samples of (batch number, case index); everything random depends on seed, batch number and case alone.

    Args:
        cases: scans to draw from.
        sampler: the objective's.
    """

    def __init__(self, cases: Sequence[Case], sampler: Sampler) -> None:
        self.cases = cases
        self.sampler = sampler

    def __getitem__(self, key: tuple[int, int]) -> Drawn | VocoError:
        """Return a sample, or the error that kept it away, to be raised where the user sees it."""
        step, index = key
        case = self.cases[index]
        try:
            return Drawn(case.name, self.sampler.draw(case, step))
        except VocoError as error:
            return error

    def collate(self, items: Sequence[Drawn | VocoError]) -> PretrainingBatch | VocoError:
        """Return the batch of a step, or the first error."""
        drawn = []
        for item in items:
            if isinstance(item, VocoError):
                return item
            drawn.append(item)
        return PretrainingBatch([one.name for one in drawn], self.sampler.collate([one.sample for one in drawn]))
