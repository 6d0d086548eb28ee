"""What happened since the last look at the device: nothing here waits for it before it is asked to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voco_cli.errors import DataError


@dataclass
class Recent:
    """Terms and cases of the last few steps, and where their time went."""

    terms: list[Mapping[str, Tensor]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    cases: list[Sequence[str]] = field(default_factory=list)
    waited_s: float = 0.0
    began_s: float = field(default_factory=time.perf_counter)

    def add(self, step: int, terms: Mapping[str, Tensor], cases: Sequence[str]) -> None:
        """Remember a batch of step ``step``, counted from 1; its tensors stay where they are."""
        self.terms.append({name: value.detach() for name, value in terms.items()})
        self.steps.append(step)
        self.cases.append(cases)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent inside is counted as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited_s += time.perf_counter() - start

    def means(self) -> dict[str, float]:
        """Mean of each term; this is where the loop waits for the device.

        Raises:
            DataError: a loss or a gradient was not finite; names the step and the cases.
        """
        table = {name: torch.stack([terms[name].float() for terms in self.terms]) for name in self.terms[0]}
        values = dict(zip(table, torch.stack(list(table.values())).cpu(), strict=True))
        # A gradient that is not finite has spoilt the weights before the next loss shows it.
        for name, what in (("loss", "loss"), ("grad_norm", "gradient norm")):
            bad = (~values[name].isfinite()).nonzero()
            if len(bad):
                first = int(bad[0])
                raise DataError(
                    f"The {what} became {values[name][first].item()} at step {self.steps[first]}, "
                    f"with the cases {', '.join(self.cases[first])}.",
                    "look at these scans, or lower train.lr or set train.clip_norm; the last checkpoint is good",
                )
        return {name: float(row.mean()) for name, row in values.items()}

    def timing(self) -> dict[str, float]:
        """Cases a second, and the share of time spent waiting for data."""
        elapsed = time.perf_counter() - self.began_s
        return {
            "cases_per_s": sum(map(len, self.cases)) / elapsed,
            "data_wait": self.waited_s / elapsed,
        }
