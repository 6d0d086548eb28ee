"""Every term against the formulae written out in plain Python, against hand arithmetic, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.objectives.voco import literal
from voco_cli.objectives.voco.losses import (
    PREDICTION_LOSSES,
    base_regularisation,
    cosine,
    inter_volume_loss,
    position_logits,
    positive_loss,
)

LITERAL = {"cvpr": literal.cvpr, "tpami": literal.tpami, "paper": literal.paper}


def features(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def labels_of(seed: int, *shape: int) -> Tensor:
    """Labels of crops over one, two or four base crops: most are zero, and each row sums to 1."""
    generator = np.random.default_rng(seed)
    labels = generator.random(shape) * (generator.random(shape) < 0.3)
    labels[..., 0] += 0.1
    return torch.from_numpy(labels / labels.sum(-1, keepdims=True))


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_prediction_loss_is_the_formula(name: str, seed: int) -> None:
    feats, bases, labels = features(seed, 2, 4, 5), features(seed + 1, 2, 6, 5), labels_of(seed, 2, 4, 6)
    found = PREDICTION_LOSSES[name](labels, position_logits(feats, bases))
    for volume in range(2):
        predicted = literal.logits(feats[volume].tolist(), bases[volume].tolist())
        assert float(found[volume]) == pytest.approx(LITERAL[name](labels[volume].tolist(), predicted), abs=1e-7)


def test_prediction_losses_by_hand() -> None:
    labels, logits = torch.tensor([[0.75, 0.25, 0.0, 0.0]]).double(), torch.tensor([[0.5, 0.5, 0.5, 0.0]]).double()
    # |y - l| is 1/4 at both positive places: -ln(3/4), weighted by y, over a sum of 1.
    positive = -math.log(0.75)
    assert float(positive_loss(labels, logits)) == pytest.approx(positive, abs=1e-5)
    assert float(PREDICTION_LOSSES["cvpr"](labels, logits)) == pytest.approx(positive + 0.25 / 2, abs=1e-5)
    assert float(PREDICTION_LOSSES["tpami"](labels, logits)) == pytest.approx(positive + math.log(2) / 2, abs=1e-5)
    expected = (2 * -math.log(0.75) + math.log(2)) / 4
    assert float(PREDICTION_LOSSES["paper"](labels, logits)) == pytest.approx(expected, abs=1e-5)


def test_a_perfect_prediction_costs_minus_epsilon() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert float(positive_loss(labels, labels)) == pytest.approx(-1e-6, abs=1e-11)


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
def test_labels_that_are_all_zero_or_all_positive(name: str) -> None:
    logits = torch.full((2, 3), 0.5, dtype=torch.float64)
    for labels in (torch.zeros(2, 3).double(), torch.full((2, 3), 1 / 3).double()):
        expected = LITERAL[name](labels.tolist(), logits.tolist())
        assert float(PREDICTION_LOSSES[name](labels, logits)) == pytest.approx(expected, abs=1e-7)


def test_cosine_by_hand() -> None:
    a = torch.tensor([[3.0, 4.0], [-1.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, -3.0]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([[0.6, 0.8, 0.0], [-1.0, 0.0, -0.8]]))
    torch.testing.assert_close(position_logits(a, b), torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-9, 1.0, 1e9])
def test_cosine_and_its_gradient_are_torchs_for_any_norm(scale: float) -> None:
    a = (features(0, 3, 4) * scale).requires_grad_()
    b = features(1, 2, 4)
    expected = torch.cosine_similarity(a[:, None], b[None], dim=-1, eps=1e-8)
    weights = features(2, 3, 2)
    torch.testing.assert_close(cosine(a, b), expected, atol=1e-12, rtol=1e-12)
    (found_grad,) = torch.autograd.grad((cosine(a, b) * weights).sum(), a)
    (expected_grad,) = torch.autograd.grad((expected * weights).sum(), a)
    torch.testing.assert_close(found_grad, expected_grad)


@pytest.mark.parametrize("num_bases", [2, 3, 9, 16])
def test_regularisation_is_the_formula(num_bases: int) -> None:
    bases = features(num_bases, 2, num_bases, 3)
    expected = [literal.regularisation(volume.tolist()) for volume in bases]
    np.testing.assert_allclose(base_regularisation(bases), expected, atol=1e-12)


def test_regularisation_by_hand() -> None:
    assert float(base_regularisation(torch.eye(4))) == 0.0
    assert float(base_regularisation(torch.ones(4, 3))) == pytest.approx(1.0)
    assert float(base_regularisation(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == 0.0  # opposite is apart enough
    # Cosines 0.6, 0 and 0.8 of three pairs: (0.36 + 0 + 0.64) / 3.
    bases = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert float(base_regularisation(bases)) == pytest.approx(1 / 3)


def test_regularisation_moves_only_the_earlier_crop_of_a_pair() -> None:
    bases = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(base_regularisation(bases), bases)
    # d(c^2)/dq0 = 2 c (q1 - c q0) at unit q0 and c = 0.6; the last crop is held fixed.
    np.testing.assert_allclose(grad, [[0.0, 2 * 0.6 * 0.8], [0.0, 0.0]], atol=1e-12)
    bases = features(0, 5, 4).abs().requires_grad_()
    (grad,) = torch.autograd.grad(base_regularisation(bases), bases)
    assert grad[-1].abs().max() == 0
    assert (grad[:-1].norm(dim=-1) > 1e-3).all()


@pytest.mark.parametrize("num_volumes", [1, 2, 3])
def test_inter_volume_term_is_the_formula(num_volumes: int) -> None:
    student, student_bases, teacher, teacher_bases = (
        features(i, num_volumes, count, 5).requires_grad_() for i, count in enumerate((3, 4, 3, 4))
    )
    found = inter_volume_loss(student, student_bases, teacher, teacher_bases)
    parts = (part.tolist() for part in (student, student_bases, teacher, teacher_bases))
    np.testing.assert_allclose(found.detach(), literal.inter_volume(*parts), atol=1e-7)
    found.sum().backward()
    assert teacher.grad is None
    assert teacher_bases.grad is None
    assert student.grad is not None
    assert student_bases.grad is not None


def test_inter_volume_term_of_one_volume_compares_it_with_itself() -> None:
    feats, bases = features(0, 1, 3, 5), features(1, 1, 4, 5)
    logits = position_logits(feats, bases)
    expected = PREDICTION_LOSSES["tpami"](logits, logits)
    torch.testing.assert_close(inter_volume_loss(feats, bases, feats, bases), expected)


def all_terms(feats: Tensor, bases: Tensor, labels: Tensor) -> dict[str, Callable[[], Tensor]]:
    return {
        **{n: lambda f=f: f(labels, position_logits(feats, bases)) for n, f in PREDICTION_LOSSES.items()},
        "regularisation": lambda: base_regularisation(bases),
        "inter": lambda: inter_volume_loss(feats, bases, feats.detach().flip(1), bases.detach()),
    }


@pytest.mark.parametrize("kind", ["identical", "scaled", "opposite", "zero", "random"])
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, False), (torch.float32, True)],
)
def test_terms_and_gradients_are_finite_in_half_precision(dtype: torch.dtype, kind: str, autocast: bool) -> None:
    rows = features(3, 2, 1, 64).expand(2, 5, 64).clone()
    if kind == "scaled":
        rows *= torch.arange(1, 6)[:, None]
    if kind == "random":
        rows = features(4, 2, 5, 64)
    feats = (rows * {"opposite": -1.0, "zero": 0.0}.get(kind, 1.0)).to(dtype).requires_grad_()
    bases = rows.to(dtype).requires_grad_()
    labels = torch.zeros(2, 5, 5)
    labels[..., 0] = 1.0
    for name, term in all_terms(feats, bases, labels).items():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = term()
        assert loss.dtype == torch.float32, name
        assert loss.isfinite().all(), name
        for grad in torch.autograd.grad(loss.sum(), (feats, bases), allow_unused=True):
            assert grad is None or grad.isfinite().all(), name


def test_half_precision_embeddings_are_compared_in_single_precision() -> None:
    """As bfloat16 keeps 8 bits, a cosine taken in it would be off by 4e-3, and could exceed 1."""
    feats, bases = features(5, 8, 256).bfloat16(), features(6, 9, 256).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = cosine(feats, bases)
    expected = torch.cosine_similarity(feats.double()[:, None], bases.double()[None], dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_terms_do_not_depend_on_the_length_of_embeddings(seed: int, scale: float) -> None:
    feats, bases, labels = features(seed, 3, 5), features(seed + 1, 4, 5), labels_of(seed, 3, 4)
    for name in ("cvpr", "tpami", "paper", "regularisation"):
        one, other = (all_terms(feats * s, bases * s, labels)[name]() for s in (1.0, scale))
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
def test_logits_that_rounding_took_beyond_one_stay_finite(name: str) -> None:
    """A bfloat16 cosine of 1.0078 is the next number above 1: the logarithm of 1 - 1.0078 would be NaN."""
    logits = torch.tensor([[1.0078, 1.0078]], requires_grad=True)
    loss = PREDICTION_LOSSES[name](torch.tensor([[0.0, 1.0]]), logits)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert grad.isfinite().all()
