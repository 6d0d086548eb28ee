"""Classified cases made for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voco_cli.evaluate.classification.metrics import ScoredCases

NAMES = ("normal", "pneumonia", "covid")


def made_scores(
    truth: Sequence[int], probabilities: Sequence[Sequence[float]], patients: Sequence[str] | None = None
) -> ScoredCases:
    """Cases c0, c1, ..., each of a patient of its own where none are given."""
    cases = tuple(f"c{n}" for n in range(len(truth)))
    rows = np.array(probabilities, np.float64)
    return ScoredCases(cases, tuple(patients or cases), NAMES[: rows.shape[1]], np.array(truth, np.intp), rows)


def random_scores(seed: int, num_cases: int = 40, num_categories: int = 3, num_patients: int = 15) -> ScoredCases:
    """Probabilities that know something of the category, in coarse steps so that there are ties."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_categories, num_cases)
    rows = np.round(rng.random((num_cases, num_categories)) + 0.5 * np.eye(num_categories)[truth], 1) + 0.1
    patients = [f"p{n}" for n in rng.integers(0, num_patients, num_cases)]
    return made_scores(truth.tolist(), (rows / rows.sum(axis=1, keepdims=True)).tolist(), patients)
