"""Weak supervision: the loss over the labels that are known, the pooling of crops, the area under the curve."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.objectives.test_label_crops import labelled_case
from voco_cli.config import Settings, load_settings
from voco_cli.errors import DataError
from voco_cli.models.build import build_encoder
from voco_cli.objectives.objective import Case
from voco_cli.objectives.weak import (
    DeepestHead,
    Weak,
    area_under_curve,
    known_cross_entropy,
    pool_scans,
)

CPU = torch.device("cpu")
MADE = (
    "objective.voco.weight=0",
    "objective.weak.weight=1",
    "objective.weak.classes=[tumour,effusion]",
    "crops.size=16x16x16",
    "crops.random_per_volume=2",
    "model.levels=3",
    "model.feature_size=2",
    "health.cases=4",
    "health.crops_per_case=2",
)


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*MADE, *overrides)).settings


def made(*overrides: str) -> Weak:
    settings = settings_of(*overrides)
    torch.manual_seed(0)
    return Weak(settings, build_encoder(settings.model))


def case_of(folder: Path, name: str, *said: bool | None, seed: int = 0) -> Case:
    volume = labelled_case(folder, name, None, seed).volume
    return Case(name, volume, None, said)


def test_the_loss_by_hand() -> None:
    """Logits 0 and ln 3 of the first class, of scans with and without it, ln 3 of the second, known of one scan."""
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 5.0]])
    there, known = torch.tensor([[True, True], [False, False]]), torch.tensor([[True, True], [True, False]])
    first, second = (math.log(2) + math.log(4)) / 2, math.log(4 / 3)
    assert known_cross_entropy(logits, there, known).item() == pytest.approx((first + second) / 2)


def literal(logits: Tensor, there: Tensor, known: Tensor) -> float:
    """Return the loss class by class and scan by scan."""
    of_classes = []
    for k in range(logits.shape[1]):
        each = [
            -math.log(1 / (1 + math.exp(-logit)) if is_there else 1 / (1 + math.exp(logit)))
            for logit, is_there, is_known in zip(*(one[:, k].tolist() for one in (logits, there, known)), strict=True)
            if is_known
        ]
        of_classes += [sum(each) / len(each)] if each else []
    return sum(of_classes) / len(of_classes)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_slow_plain_version_and_unknown_pairs_have_a_gradient_of_exactly_zero(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, generator=generator).requires_grad_()
    there, known = (torch.rand(5, 4, generator=generator) > share for share in (0.5, 0.4))
    known[:, 3] = False
    loss = known_cross_entropy(logits, there, known)
    assert loss.item() == pytest.approx(literal(logits.detach(), there, known), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[~known], torch.zeros(int((~known).sum())))
    assert bool((logits.grad[known] != 0).all())
    odd = logits.detach().clone()
    odd[~known] = torch.nan
    assert torch.equal(known_cross_entropy(odd, there, known), loss.detach())


def test_a_class_that_no_scan_of_the_step_is_labelled_for_leaves_its_weights_and_the_encoder_alone(
    tmp_path: Path,
) -> None:
    objective = made()
    case = case_of(tmp_path, "a", True, None)
    objective.train_on([case])
    batch = objective.sampler.collate([objective.sampler.draw(case, 1)])
    objective(*objective.prepare(batch, CPU))["loss"].backward()
    weight, bias = objective.head.linear.weight.grad, objective.head.linear.bias.grad  # type: ignore[union-attr]
    assert weight is not None
    assert bias is not None
    assert not weight[1].any()
    assert bias[1] == 0
    assert bias[0] != 0
    encoder = [p.grad for p in objective.encoder.parameters() if p.grad is not None]
    assert any(bool(one.any()) for one in encoder)
    objective.zero_grad()
    nobody = batch._replace(known_MK=torch.zeros_like(batch.known_MK))
    loss = objective(*objective.prepare(nobody, CPU))["loss"]
    loss.backward()
    assert loss.item() == 0
    assert not any(bool(p.grad.any()) for p in objective.parameters() if p.grad is not None)


def test_a_scan_is_the_mean_or_the_largest_of_all_places_of_its_crops() -> None:
    head = DeepestHead(1, 1)
    nn.init.constant_(head.linear.weight, 2.0)
    nn.init.constant_(head.linear.bias, 1.0)  # type: ignore[arg-type]
    places = torch.tensor([[0.0, 1.0], [2.0, 5.0], [-1.0, -3.0], [0.0, 0.0]]).view(4, 1, 2, 1, 1)
    logits = head([torch.zeros(4, 7, 8, 8, 8), places])  # the finer map is not read
    assert pool_scans(logits, 2, "mean").tolist() == [[2 * 2 + 1], [2 * -1 + 1]]
    assert pool_scans(logits, 2, "max").tolist() == [[2 * 5 + 1], [1]]


def test_the_area_under_the_curve_by_hand() -> None:
    """Of 2 x 2 pairs two are in order, one is not and one is a tie."""
    scores, there = np.array([0.3, 0.9, 0.3, 0.5]), np.array([True, True, False, False])
    assert area_under_curve(scores, there) == (2 + 0.5) / 4
    assert area_under_curve(scores, np.ones(4, bool)) is None
    assert area_under_curve(np.array([]), np.array([], bool)) is None


def test_a_scan_without_labels_is_stood_in_for_and_draws_are_a_function_of_seed_step_and_case(tmp_path: Path) -> None:
    objective = made()
    cases = [case_of(tmp_path, "a", True, None, seed=1), case_of(tmp_path, "b", False, True, seed=2)]
    bare = case_of(tmp_path, "c", seed=3)
    objective.train_on([*cases, bare])
    sampler = objective.sampler
    drawn = [sampler.draw(bare, step) for step in range(40)]
    assert {tuple(one.known_K.tolist()) for one in drawn} == {(True, False), (True, True)}
    again = made()
    again.train_on([*cases, bare])
    for step in (0, 7, 39):
        other = again.sampler.draw(bare, step)
        np.testing.assert_array_equal(other.crops_SXYZ, drawn[step].crops_SXYZ)
        np.testing.assert_array_equal(other.there_K, drawn[step].there_K)
    assert not np.array_equal(drawn[0].crops_SXYZ, drawn[1].crops_SXYZ)
    own = sampler.draw(cases[1], 0)
    assert (own.there_K.tolist(), own.known_K.tolist()) == ([False, True], [True, True])
    with pytest.raises(DataError, match="None of the training scans with scan labels"):
        made().train_on([bare])


def test_scans_are_held_out_by_what_they_bring(tmp_path: Path) -> None:
    """Of 6 scans, of which one has the tumour and one alone is known for effusion, these two are among the 4."""
    said = [(False, None)] * 4 + [(True, None), (None, True)]
    cases = [case_of(tmp_path, f"c{n}", *one) for n, one in enumerate(said)]
    objective = made()
    objective.train_on(cases)
    objective.hold_out([*cases, case_of(tmp_path, "bare")])
    names = [case.name for case, _ in objective.held_out]
    assert len(names) == 4
    assert {"c4", "c5"} <= set(names[:3])


def test_guessing_has_the_figures_of_chance(tmp_path: Path) -> None:
    """A head of zeros gives all scans one score: every pair is a tie, and each cross entropy is ln 2."""
    objective = made()
    cases = [case_of(tmp_path, f"c{n}", n % 2 == 0, True, seed=n) for n in range(4)]
    objective.train_on(cases)
    objective.hold_out(cases)
    for part in objective.head.parameters():
        nn.init.zeros_(part)
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    assert found.figures == {
        "cross_entropy": pytest.approx(math.log(2)),
        "auc": 0.5,
        "error": 0.5,
        "auc/tumour": 0.5,
    }
    assert objective.figure_infos["auc"].chance == objective.figure_infos["auc/effusion"].chance == 0.5


@pytest.mark.parametrize(
    ("now", "status", "words"),
    [
        ({"auc": 0.8}, "learned", "by a mean AUC of 0.80 (step 0: 0.45, guessing: 0.50)"),
        ({"auc": 0.6}, "not yet", "and learned means at least 0.70"),
        ({"cross_entropy": 0.6}, "not yet", "No class has a held-out scan with it and one without it"),
    ],
)
def test_the_verdict(now: dict[str, float], status: str, words: str) -> None:
    verdict = made().verdict({"auc": 0.45}, now)
    assert verdict.status == status
    assert words in verdict.sentence
