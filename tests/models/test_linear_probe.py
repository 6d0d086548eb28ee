from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch.nn import functional as F

from voco_cli.models.linear_probe import (
    PENALTY,
    LinearProbe,
    dice_by_class,
    fit_linear,
    nearest_classes,
    retrieved,
    sample_maps,
)


def made_samples(n: int = 90, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds that overlap, in four features of which the last never varies."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 3
    centres = torch.tensor([[0.0, 0, 3, 1], [1, 0, 0, 1], [0, 2, 0, 1]])
    spread = torch.tensor([1.0, 1, 5, 0])
    return centres[classes] + spread * torch.randn(n, 4, generator=generator), classes


def test_the_linear_probe_is_the_regression_that_scipy_finds() -> None:
    features, classes = made_samples()
    probe = fit_linear(features, classes, 3)
    values = features.double().numpy()[:, :3]
    values = (values - values.mean(0)) / values.std(0)

    def loss(flat: np.ndarray) -> float:
        weights, bias = flat[:9].reshape(3, 3), flat[9:]
        logits = values @ weights.T + bias
        own = logits[np.arange(len(values)), classes.numpy()]
        return float((logsumexp(logits, axis=1) - own).mean() + PENALTY / 2 * (weights**2).sum())

    slow = minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-8}).x
    expected = values @ slow[:9].reshape(3, 3).T + slow[9:]
    found = probe.logits(features).numpy()
    # Logits are defined up to a constant a sample.
    assert found - found[:, :1] == pytest.approx(expected - expected[:, :1], abs=2e-3)
    assert torch.equal(probe.weights_KE[:, 3], torch.zeros(3, dtype=torch.float64))


def test_a_prior_moves_the_bias_by_the_log_of_the_ratio() -> None:
    features, classes = made_samples()
    plain = fit_linear(features, classes, 3)
    moved = fit_linear(features, classes, 3, torch.tensor([0.8, 0.1, 0.1]))
    shift = moved.bias_K - plain.bias_K
    assert shift.tolist() == pytest.approx([np.log(0.8 * 3), np.log(0.1 * 3), np.log(0.1 * 3)])


def test_a_class_without_samples_never_wins() -> None:
    features, classes = made_samples()
    probe = fit_linear(features, classes, 4, torch.tensor([0.25, 0.25, 0.25, 0.25]))
    assert set(probe.logits(features).argmax(1).tolist()) == {0, 1, 2}


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes"):
        fit_linear(torch.randn(5, 2), torch.zeros(5, dtype=torch.long), 3)


def test_logits_of_maps_are_those_of_all_features_of_all_voxels() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 3, 8, 6, 4, generator=generator), torch.randn(1, 5, 4, 3, 2, generator=generator)]
    probe = LinearProbe(torch.randn(2, 8, generator=generator).double(), torch.randn(2, generator=generator).double())
    size = (8, 6, 4)
    dense = torch.cat([F.interpolate(one, size=size, mode="trilinear") for one in maps], dim=1)[0]
    slow = torch.einsum("ke,exyz->kxyz", probe.weights_KE, dense.double()) + probe.bias_K[:, None, None, None]
    assert torch.allclose(probe.logits_of_maps(maps, size), slow, atol=1e-5)
    places = torch.tensor([[0, 0, 0], [7, 5, 3], [3, 2, 1]])
    features = sample_maps(maps, places, size)
    assert torch.allclose(features, dense[:, places[:, 0], places[:, 1], places[:, 2]].T, atol=1e-5)


def test_nearest_neighbours_by_hand() -> None:
    known = torch.tensor([[1.0, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1]])
    found = nearest_classes(torch.tensor([[2.0, 0.0]]), known, torch.tensor([0, 0, 1, 1]), 2, k=2)
    assert found.tolist() == [[1.0, 0.0]]
    found = nearest_classes(torch.tensor([[2.0, 0.0]]), known, torch.tensor([0, 0, 1, 1]), 2, k=9)
    assert found.tolist() == [[0.5, 0.5]]


def test_retrieval_by_hand() -> None:
    # Two patients with two places each. Standardised, the crops lie at -43, 135, -43 and -49 degrees: patient 0's crop
    # of place 1 is far from both of patient 1's, and nearer to the second; patient 1's second is astray.
    features = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1], [0.95, 0.0]])
    places, patients = [0, 1, 0, 1], [0, 0, 1, 1]
    assert retrieved(features, places, patients).tolist() == [1, 1, 1, 0]


def test_retrieval_without_others_says_nothing() -> None:
    assert np.isnan(retrieved(torch.randn(3, 2), [0, 1, 2], [0, 0, 0])).all()


def test_dice_by_hand() -> None:
    truth = np.array([0, 1, 1, 1, 2, 255, 0])
    predicted = np.array([0, 1, 1, 0, 1, 2, 1])
    # class 1: 2 shared, 4 predicted, 3 true; class 2: 0 of 1; class 3 is not there.
    assert dice_by_class(predicted, truth, 4, 255) == pytest.approx([4 / 7, 0.0, np.nan], nan_ok=True)
