"""The values of all cases and structures as one table: what means, intervals and comparisons are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluation.empty import EmptyRule, apply_rule
from voco_cli.evaluation.measures import METRICS, Measurement, State, Structure
from voco_cli.evaluation.patient_numbers import numbered

LOWER_IS_BETTER = frozenset({"hd95_mm", "asd_mm"})


@dataclass(frozen=True)
class MeasuredCase:
    """One case, measured.

    Attributes:
        case: name that predictions and labels share.
        patient: identity that resampling goes by.
        measurements: one a structure, in the order of the structures.
        notes: what was odd about the files, one sentence each.
    """

    case: str
    patient: str
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultTable:
    """Values after the rule for empty structures. N cases, C structures, M metrics as in `METRICS`.

    Attributes:
        cases: names, N.
        patients: numbers in place of names, N.
        structures: classes first, then regions.
        values_NCM: NaN where the rule leaves a value out.
        states: N rows of C words: both, missed, phantom, absent.
        volumes_NC2: ml, of the reference and of the prediction.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    structures: tuple[Structure, ...]
    values_NCM: NDArray[np.float64]
    states: tuple[tuple[State, ...], ...]
    volumes_NC2: NDArray[np.float64]

    def of_metric(self, metric: str) -> NDArray[np.float64]:
        """The values of one metric: ``values_NC``."""
        return np.asarray(self.values_NCM[:, :, METRICS.index(metric)])

    @property
    def averaged(self) -> list[int]:
        """Structures that the mean over classes takes: the classes, or the regions where there are only those."""
        classes = [i for i, one in enumerate(self.structures) if not one.is_region]
        return classes or list(range(len(self.structures)))

    def count(self, state: State, structure: int) -> int:
        """Cases in which a structure is in that state."""
        return sum(row[structure] == state for row in self.states)


def result_table(measured: Sequence[MeasuredCase], structures: Sequence[Structure], rule: EmptyRule) -> ResultTable:
    """Put measured cases under a rule for empty structures, sorted by case."""
    ordered = sorted(measured, key=lambda one: one.case)
    shape = (len(ordered), len(structures))
    values = np.empty((*shape, len(METRICS)))
    volumes = np.empty((*shape, 2))
    for n, case in enumerate(ordered):
        for c, one in enumerate(case.measurements):
            by_name = apply_rule(one, rule)
            values[n, c] = [by_name[name] for name in METRICS]
            volumes[n, c] = (one.reference_ml, one.prediction_ml)
    return ResultTable(
        cases=tuple(one.case for one in ordered),
        patients=numbered(one.patient for one in ordered),
        structures=tuple(structures),
        values_NCM=values,
        states=tuple(tuple(one.state for one in case.measurements) for case in ordered),
        volumes_NC2=volumes,
    )
