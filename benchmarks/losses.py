"""The terms of the loss, forward and backward: a loop over samples and pairs, against ours.

The loop is written from the description of the releases, and calls the cosine as often as they do: once for each random
crop, with all base crops of the volume, and once for each pair of base crops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.interleaved import compare
from benchmarks.registry import Options
from benchmarks.rows import Figure, Row
from voco_cli.objectives.voco.crops import base_starts, label_boxes, position_labels
from voco_cli.objectives.voco.losses import base_regularisation, cosine, cvpr_prediction_loss

# B volumes, S random crops, K base crops, C channels of the embedding.
RANDOM, GRID, SIZE_VOX, CHANNELS = 2, (4, 4, 1), (96, 96, 96), 2048
QUICK_CHANNELS = 32
EPS = 1e-6
TARGET = 12.0
TOLERANCE = 3e-8
GRADIENT_TOLERANCE = 1e-10
REPEATS = 20
"""Of the terms in a measurement; one takes milliseconds."""

Embeddings = tuple[Tensor, Tensor, Tensor, Tensor]
Terms = Callable[[Embeddings, Tensor], Tensor]


def rows(options: Options) -> Iterator[Row]:
    """Two volumes, as a step of the released code has them, and eight."""
    for volumes in (2,) if options.quick else (2, 8):
        embeddings, labels = made_step(volumes, QUICK_CHANNELS if options.quick else CHANNELS)
        yield compare(
            f"{volumes} volumes, fwd+bwd, {REPEATS} times",
            partial(_repeat, loop_terms, embeddings, labels),
            partial(_repeat, our_terms, embeddings, labels),
            options.rounds_or(7),
            target=TARGET,
            error=abs(_loss(loop_terms, embeddings, labels) - _loss(our_terms, embeddings, labels)),
            tolerance=TOLERANCE,
        )
        error = _gradient_error(embeddings, labels)
        yield Figure(f"{volumes} volumes, largest difference of a gradient", "", [error], GRADIENT_TOLERANCE)


def made_step(volumes: int, channels: int, dtype: torch.dtype = torch.float32) -> tuple[Embeddings, Tensor]:
    """Student's and teacher's embeddings of random and base crops, in that order, and labels_BSK."""
    generator = torch.Generator().manual_seed(0)
    bases = GRID[0] * GRID[1]

    def drawn(rows: int, learnt: bool) -> Tensor:
        made = torch.randn(volumes, rows, channels, generator=generator, dtype=dtype)
        return made.requires_grad_(learnt)

    embeddings = (drawn(RANDOM, True), drawn(bases, True), drawn(RANDOM, False), drawn(bases, False))
    starts = np.random.default_rng(0).integers(0, [289, 289, 1], size=(volumes, RANDOM, 3))
    labels = [position_labels(*label_boxes(one, SIZE_VOX, "whole"), SIZE_VOX, GRID, SIZE_VOX) for one in starts]
    assert len(base_starts(GRID, SIZE_VOX)) == bases
    return embeddings, torch.from_numpy(np.stack(labels)).to(dtype)


def loop_terms(embeddings: Embeddings, labels_BSK: Tensor) -> Tensor:
    """The loss of the CVPR release volume by volume, crop by crop and pair by pair, written from its description."""
    total = labels_BSK.new_zeros(())
    for student, bases, teacher, teacher_bases, labels in zip(*embeddings, labels_BSK, strict=True):
        logits_SK = (_loop_logits(student, teacher_bases) + _loop_logits(teacher, bases)) / 2
        absent = labels == 0
        negative = (absent * logits_SK**2).sum() / (absent.sum() + EPS)
        total = total + _loop_positive(labels, logits_SK) + negative + _loop_pairs(bases)
    return total / len(labels_BSK)


def tpami_loop_terms(embeddings: Embeddings, labels_BSK: Tensor) -> Tensor:
    """The same of the TPAMI release: another negative term, one direction, and the next volume's base crops."""
    total, count = labels_BSK.new_zeros(()), len(labels_BSK)
    for i, (student, bases, teacher, teacher_bases) in enumerate(zip(*embeddings, strict=True)):
        after = (i + 1) % count
        targets = _loop_logits(teacher, embeddings[3][after]).detach()
        for labels, logits_SK in (
            (labels_BSK[i], _loop_logits(student, teacher_bases)),
            (targets, _loop_logits(student, embeddings[1][after])),
        ):
            absent = labels == 0
            negative = -(absent * torch.log(1 - logits_SK + EPS)).sum() / (absent.sum() + EPS)
            total = total + _loop_positive(labels, logits_SK) + negative
        total = total + _loop_pairs(bases)
    return total / count


def _loop_logits(feats_SC: Tensor, bases_KC: Tensor) -> Tensor:
    return torch.stack([F.cosine_similarity(crop[None], bases_KC, dim=1) for crop in feats_SC]).relu()


def _loop_positive(labels_SK: Tensor, logits_SK: Tensor) -> Tensor:
    return -(labels_SK * torch.log(1 - (labels_SK - logits_SK).abs() + EPS)).sum() / (labels_SK.sum() + EPS)


def _loop_pairs(bases_KC: Tensor) -> Tensor:
    """The later base crop of a pair is held fixed."""
    return torch.stack(
        [
            F.cosine_similarity(bases_KC[i], bases_KC[j].detach(), dim=0).relu() ** 2
            for i in range(len(bases_KC))
            for j in range(i + 1, len(bases_KC))
        ]
    ).mean()


def our_terms(embeddings: Embeddings, labels_BSK: Tensor) -> Tensor:
    """The same as our step has it."""
    student, bases, teacher, teacher_bases = embeddings
    logits = 0.5 * (cosine(student, teacher_bases).relu() + cosine(teacher, bases).relu())
    return cvpr_prediction_loss(labels_BSK, logits).mean() + base_regularisation(bases).mean()


def _doubled(embeddings: Embeddings) -> Embeddings:
    """In float64 only another formula shows; in float32 the order of sums would."""
    student, bases, teacher, teacher_bases = (one.detach().double() for one in embeddings)
    return student.requires_grad_(), bases.requires_grad_(), teacher, teacher_bases


def _loss(terms: Terms, embeddings: Embeddings, labels: Tensor) -> float:
    return float(terms(_doubled(embeddings), labels.double()).detach())


def _gradients(terms: Terms, embeddings: Embeddings, labels: Tensor) -> list[Tensor]:
    doubled = _doubled(embeddings)
    terms(doubled, labels.double()).backward()
    return [one.grad for one in doubled if one.grad is not None]


def _gradient_error(embeddings: Embeddings, labels: Tensor) -> float:
    both = (_gradients(loop_terms, embeddings, labels), _gradients(our_terms, embeddings, labels))
    return max(float((one - other).abs().max()) for one, other in zip(*both, strict=True))


def _repeat(terms: Terms, embeddings: Embeddings, labels: Tensor) -> None:
    for _ in range(REPEATS):
        for one in embeddings:
            one.grad = None
        terms(embeddings, labels).backward()
