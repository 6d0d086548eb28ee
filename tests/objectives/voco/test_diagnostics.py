"""Figures on held-out scans, on embeddings whose answer is found by hand; and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voco_cli.config.objective_schema import VocoOptions
from voco_cli.config.schema import Health
from voco_cli.objectives.voco.diagnostics import (
    HeldOutSize,
    chance_figures,
    correlation,
    effective_rank,
    held_out_figures,
    mean_rank,
    verdict,
)
from voco_cli.objectives.voco.model import Embedded, VolumeContrast


class NoEncoder(nn.Identity):
    out_features = 1


def model(symmetric: bool = True) -> VolumeContrast:
    return VolumeContrast(NoEncoder, lambda _: nn.Identity(), VocoOptions(symmetric=symmetric))


def both(random_VSC: Tensor, bases_VKC: Tensor) -> tuple[Embedded, Embedded]:
    return Embedded(random_VSC, bases_VKC), Embedded(random_VSC, bases_VKC)


@pytest.mark.parametrize(
    ("cosines", "true", "rank"),
    [
        ([0.9, 0.5, 0.4, 0.1], 0, 0.0),
        ([0.9, 0.5, 0.4, 0.1], 3, 3.0),
        ([0.9, 0.5, 0.5, 0.1], 1, 1.5),  # one above, one equal
        ([0.5, 0.5, 0.5, 0.5], 2, 1.5),  # all alike is chance, wherever the true one stands
        ([-0.1, -0.2, -0.3, -0.4], 1, 1.0),
    ],
)
def test_rank_by_hand(cosines: list[float], true: int, rank: float) -> None:
    assert float(mean_rank(torch.tensor([[cosines]]), torch.tensor([[[true]]]))) == rank


def test_correlation_is_pearsons() -> None:
    logits, labels = (torch.from_numpy(np.random.default_rng(i).random((2, 3, 4))) for i in range(2))
    expected = np.corrcoef(logits.flatten(), labels.flatten())[0, 1]
    assert float(correlation(logits, labels)) == pytest.approx(expected, abs=1e-12)
    assert float(correlation(3 * labels + 1, labels)) == pytest.approx(1.0)
    assert float(correlation(-labels, labels)) == pytest.approx(-1.0)
    assert float(correlation(torch.full_like(labels, 0.3), labels)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_effective_rank_of_orthonormal_rows_is_their_number(count: int) -> None:
    rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(8, 8))))[0]
    assert float(effective_rank(rotation[:count])) == pytest.approx(count)


def test_effective_rank_by_hand() -> None:
    assert float(effective_rank(torch.ones(6, 4))) == pytest.approx(1.0, abs=1e-4)
    # Singular values 3 and 1: shares 3/4 and 1/4.
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert float(effective_rank(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))) == pytest.approx(expected)
    assert float(effective_rank(torch.zeros(3, 3))) == 1.0


def test_figures_of_a_perfect_model() -> None:
    bases = torch.eye(4).expand(2, 4, 4)
    labels = torch.eye(4)[[0, 2, 3]].expand(2, 3, 4)
    figures = held_out_figures(model(), *both(labels.clone(), bases), labels)
    assert figures == {
        "rank": 0.0,
        "cross_rank": 0.0,
        "top1": 1.0,
        "correlation": pytest.approx(1.0),
        "label_error": pytest.approx(0.0),
        "base_cosine": 0.0,
        "effective_rank": pytest.approx(4.0),
        "dead_true": 0.0,
        "teacher_distance": pytest.approx(0.0, abs=1e-6),
    }


def test_figures_of_a_collapsed_model() -> None:
    labels = torch.eye(4)[None]
    figures = held_out_figures(model(), *both(torch.ones(1, 4, 5), torch.ones(1, 4, 5)), labels)
    assert figures["rank"] == chance_figures(4)["rank"] == 1.5
    assert figures["base_cosine"] == pytest.approx(1.0)
    assert figures["effective_rank"] == pytest.approx(1.0, abs=1e-3)
    assert figures["label_error"] == pytest.approx(0.75)
    assert figures["correlation"] == pytest.approx(0.0, abs=1e-3)
    assert "cross_rank" not in figures  # there is no other scan


def test_crops_are_ranked_against_the_next_scan_too() -> None:
    """The second scan's base crops are the first's in reverse: perfect at home, the last abroad."""
    bases = torch.stack([torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.6, 0.8], [1.0, 0.0]])])
    random, labels = bases[:, :1], torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    figures = held_out_figures(model(), *both(random, bases), labels)
    assert (figures["rank"], figures["cross_rank"]) == (0.0, 1.0)
    assert figures["base_cosine"] == pytest.approx(0.6)


def test_a_true_base_crop_at_a_negative_cosine_is_dead() -> None:
    bases = torch.eye(2)[None]
    random = torch.tensor([[[-1.0, 0.5], [1.0, 0.5], [-1.0, -1.0], [0.0, 1.0]]])
    labels = torch.tensor([[1.0, 0.0]]).expand(1, 4, 2)
    figures = held_out_figures(model(symmetric=False), *both(random, bases), labels)
    assert figures["dead_true"] == 0.75  # cosine exactly 0 passes no gradient either
    # Ranks before the ReLU: 1, 0, a tie of two, 1.
    assert figures["rank"] == (1 + 0 + 0.5 + 1) / 4


def test_teacher_distance_is_over_random_and_base_crops_alike() -> None:
    student = Embedded(torch.tensor([[[1.0, 0.0]]]), torch.eye(2)[None])
    teacher = Embedded(torch.tensor([[[0.0, 1.0]]]), torch.eye(2)[None])
    figures = held_out_figures(model(), student, teacher, torch.tensor([[[1.0, 0.0]]]))
    assert figures["teacher_distance"] == pytest.approx(1 / 3)  # one of three rows turned by a right angle


def test_figures_take_double_labels_and_half_precision_embeddings() -> None:
    labels = torch.eye(4, dtype=torch.float64)[None]
    figures = held_out_figures(model(), *both(labels.bfloat16(), labels.bfloat16()), labels)
    assert figures["rank"] == 0.0
    assert all(math.isfinite(value) for value in figures.values())


def test_chance() -> None:
    assert chance_figures(16) == {"rank": 7.5, "cross_rank": 7.5, "top1": 1 / 16, "correlation": 0.0}


START = {"rank": 6.0, "correlation": 0.1, "base_cosine": 0.6, "effective_rank": 40.0}
SEEN = HeldOutSize(scans=12, crops=6, bases=16)
GOOD = {"rank": 3.0, "correlation": 0.5, "base_cosine": 0.2, "effective_rank": 60.0}


def test_learned_at_the_gates_themselves() -> None:
    found = verdict(START, GOOD, SEEN, Health())
    assert found.status == "learned"
    assert found.sentence == (
        "Learned to locate: on 12 held-out scans (72 crops) the true base crop ranks 3.00 (step 0: 6.00), "
        "logits and labels correlate 0.50."
    )


@pytest.mark.parametrize("missed", [{"rank": 3.01}, {"correlation": 0.49}])
def test_not_yet_where_one_gate_is_missed(missed: dict[str, float]) -> None:
    found = verdict(START, GOOD | missed, SEEN, Health())
    assert found.status == "not yet"
    assert found.sentence.startswith("Not yet: on 12 held-out scans (72 crops) the true base crop ranks 3.0")
    assert found.sentence.endswith(
        "learned means at most 0.5 times the rank of step 0 and a correlation of at least 0.5; "
        "train longer or raise train.lr."
    )


@pytest.mark.parametrize("alike", [{"base_cosine": 0.91}, {"effective_rank": 9.9}])
def test_collapsed_whatever_the_rank_says(alike: dict[str, float]) -> None:
    found = verdict(START, GOOD | alike, SEEN, Health())
    assert found.status == "collapsed"
    assert found.sentence.startswith("Collapsed: on 12 held-out scans (72 crops) base crops look alike (mean cosine 0.")
    assert f"effective rank {(GOOD | alike)['effective_rank']:.1f}" in found.sentence


def test_few_base_crops_cannot_have_a_high_effective_rank() -> None:
    """Sixteen rows reach at most 16: the gate is a quarter of them, 4, not 10."""
    assert verdict(START, GOOD | {"effective_rank": 4.1}, HeldOutSize(1, 12, 16), Health()).status == "learned"
    assert verdict(START, GOOD | {"effective_rank": 3.9}, HeldOutSize(1, 12, 16), Health()).status == "collapsed"


def test_a_verdict_says_on_how_little_it_rests() -> None:
    found = verdict(START, GOOD, HeldOutSize(1, 4, 16), Health(min_effective_rank=1.0))
    assert found.sentence.startswith("Learned to locate: on 1 held-out scan (4 crops) the true base crop ranks 3.00")


def test_gates_are_settings() -> None:
    strict = Health(max_rank_ratio=0.4, min_correlation=0.6, max_base_cosine=0.1, min_effective_rank=70.0)
    assert verdict(START, GOOD, SEEN, strict).status == "collapsed"
    loose = Health(max_rank_ratio=1.0, min_correlation=0.0)
    assert verdict(START, START, SEEN, loose).status == "learned"


def test_a_start_that_was_perfect_already() -> None:
    assert verdict(START | {"rank": 0.0}, GOOD | {"rank": 0.0}, SEEN, Health()).status == "learned"
