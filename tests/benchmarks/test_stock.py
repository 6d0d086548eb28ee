"""The baselines compute what ours computes: else their ratios would compare different things."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from benchmarks.encoder import make_encoder, run, set_checkpointing
from benchmarks.gpu_encoder import GpuEncoder
from benchmarks.gpu_step import Batch, GpuStep, Recipe, Way, made_batch
from benchmarks.losses import loop_terms, made_step, our_terms, tpami_loop_terms
from benchmarks.step import OurStep, ReleasedStep, made_model
from benchmarks.step import made_batch as cpu_batch
from voco_cli.config import load_settings
from voco_cli.objectives.voco.losses import base_regularisation, cosine, inter_volume_loss, tpami_prediction_loss

CPU = torch.device("cpu")
SIZE = (64, 32, 32)


def test_loops_over_samples_and_pairs_are_our_terms() -> None:
    (student, bases, teacher, teacher_bases), labels = made_step(3, 16, torch.float64)
    embeddings = (student, bases, teacher, teacher_bases)
    torch.testing.assert_close(loop_terms(embeddings, labels), our_terms(embeddings, labels), atol=1e-12, rtol=0)
    ours = (
        tpami_prediction_loss(labels, cosine(student, teacher_bases).relu()).mean()
        + base_regularisation(bases).mean()
        + inter_volume_loss(student, bases, teacher, teacher_bases).mean()
    )
    torch.testing.assert_close(tpami_loop_terms(embeddings, labels), ours, atol=1e-6, rtol=0)


def test_the_loop_calls_the_cosine_once_a_random_crop_and_once_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    cosine_similarity = F.cosine_similarity

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        calls.append(given)
        return cosine_similarity(*given, **named)

    embeddings, labels = made_step(3, 16)
    monkeypatch.setattr(F, "cosine_similarity", counted)
    loop_terms(embeddings, labels)
    # In each of 3 volumes two directions of 2 random crops, and 16 * 15 / 2 pairs of base crops.
    assert len(calls) == 3 * (2 * 2 + 120)


def test_the_released_step_begins_with_our_loss_and_moves_the_same_weights() -> None:
    words = (
        "train.batch_size=1",
        "run.device=cpu",
        "model.feature_size=12",
        "crops.grid=2x1",
        "crops.random_per_volume=2",
        "model.projector_out=32",
    )
    words += ("crops.input_size=32x32x64", "model.projector_hidden=[32]", "augment.rotate_prob=0")
    settings = load_settings("cvpr", None, words).settings
    crops, labels = cpu_batch(settings)
    assert len(crops) == 2 + 2
    ours, released = (
        OurStep(settings, made_model(settings).double()),
        ReleasedStep(settings, made_model(settings).double()),
    )
    first, second = (step.loss(crops.double(), labels.double()) for step in (ours, released))
    assert abs(float(first.detach()) - float(second.detach())) < 1e-9
    teachers = (ours.model.teacher_encoder, released.teacher_encoder)
    assert teachers[0] is not None
    for one, other in zip(teachers[0].parameters(), teachers[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=1e-12)


def test_the_gpu_encoder_is_monais_operation_by_operation() -> None:
    stock = make_encoder(12).double()
    set_checkpointing(stock, False)
    crops = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    expected = run(stock, crops, stock=True, backward=True)
    for released, tolerance in ((True, 0.0), (False, 1e-9)):
        encoder = GpuEncoder(12, SIZE, released=released).double()
        encoder.load_state_dict(stock.state_dict(), strict=True)
        assert set(encoder.state_dict()) == set(stock.state_dict())
        found = encoder(crops)
        torch.testing.assert_close(found.detach(), expected, atol=tolerance, rtol=0)
        found.square().mean().backward()
        gradients = dict(encoder.named_parameters())
        for name, parameter in stock.named_parameters():
            torch.testing.assert_close(gradients[name].grad, parameter.grad, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_a_gpu_step_has_the_same_loss_in_every_way() -> None:
    recipe = Recipe("cvpr", 1, (2, 1), 32, SIZE, (16, 16), True, 0.0)
    ways = (
        Way("all", released=False),
        Way("released", released=True),
        Way("groups", group=2, recompute=True),
    )
    batch = made_batch(recipe, False, CPU)
    still = Batch(
        batch.crops,
        torch.zeros_like(batch.flips_N3),
        torch.zeros_like(batch.turns_N),
        batch.shifts_N,
        batch.labels_BSK,
    )
    crops = GpuStep(recipe, 12, ways[0], CPU).network_crops(still)
    losses = [float(GpuStep(recipe, 12, way, CPU).loss(crops, batch.labels_BSK).detach()) for way in ways]
    assert max(losses) - min(losses) < 1e-4


def test_arithmetic_of_a_step_by_hand() -> None:
    recipe = Recipe("cvpr", 2, (4, 4), 96, (64, 64, 64), (8, 8), True, 0.0)
    assert recipe.crops == 36
    assert abs(recipe.tflop(48) - 36 * 4 * (63 + 7.4 + 4.7) / 1000) < 1e-9
    assert abs(recipe.tflop(96) - 36 * 4 * (4 * 70.4 + 2 * 4.7) / 1000) < 1e-9
