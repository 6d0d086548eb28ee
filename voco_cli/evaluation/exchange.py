"""Two classifications as one table of twice the cases, so that weights say which of them a case counts for.

Legend: N cases, M = 2 N results, K categories, B ways to exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluation.classification import Floats, Indices, ScoredCases
from voco_cli.evaluation.statistics import mean_ranks


@dataclass(frozen=True)
class Stacked:
    """The results of one set, then those of another for the same cases.

    Attributes:
        truth_M, predicted_M: categories.
        ranks_MK: ranks of the probabilities within each set, so that sets whose probabilities are of another scale can
            be exchanged.
    """

    truth_M: Indices
    predicted_M: Indices
    ranks_MK: Floats


def stack(first: ScoredCases, other: ScoredCases) -> Stacked:
    """Both sets, of the same cases in the same order.

    Source: Bandos, Rockette and Gur, "A permutation test sensitive to differences in areas for comparing ROC curves
        from a paired design", Stat. Med. 24, 2005 (for the ranks).
    """
    return Stacked(
        np.concatenate([first.truth_N, other.truth_N]),
        np.concatenate([first.predicted, other.predicted]),
        np.concatenate([np.apply_along_axis(mean_ranks, 0, one.probabilities_NK) for one in (first, other)]),
    )


def sides(swapped_BN: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Which results stand on the first side and which on the second, two of ``weights_BM``."""
    first_BM = np.concatenate([~swapped_BN, swapped_BN], axis=1).astype(np.float64)
    return first_BM, 1 - first_BM
