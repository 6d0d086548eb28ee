"""Which labelled cases a step sees, and whether a resumed run still sees the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.engine.job import Place
from voco_cli.engine.sampler import BatchPlan
from voco_cli.errors import UsageError
from voco_cli.settings import Settings


def case_batches(settings: Settings, num_cases: int, place: Place) -> BatchPlan:
    """Batches of labelled cases; where there are fewer than a step takes, each stands in the list several times.

    A case index of the plan is taken modulo the number of cases.
    """
    needed = settings.train.batch_size * place.num_processes
    rounds = max(1, math.ceil(needed / num_cases))
    return BatchPlan(num_cases * rounds, settings.train.batch_size, settings.seed, place.process, place.num_processes)


def cases_digest(cases: Sequence[StoredCase]) -> str:
    """A fingerprint of names in their order."""
    names = "\n".join(case.name for case in cases)
    return hashlib.blake2b(names.encode(), digest_size=16).hexdigest()


def refuse_other_cases(state: Mapping[str, Any], cases: Sequence[StoredCase]) -> None:
    """See that a run goes on with the cases that it began with.

    Raises:
        UsageError: other cases can be used now, so that the batches would be others.
    """
    if state["cases"] != cases_digest(cases):
        raise UsageError(
            f"The run was trained on {state['num_cases']} usable cases and would go on with {len(cases)} "
            f"that are not the same.",
            "see what was left out and mend it, or start anew in another run.dir",
        )
