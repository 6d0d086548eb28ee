"""The loss of partly labelled crops, against arithmetic by hand and a slow plain version."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voco_cli.data.case_labels import IGNORED
from voco_cli.models.class_union import exclusive_logits
from voco_cli.objectives.partial_labels import deep_loss, partial_loss, targets_of

EVERYWHERE = torch.ones(1, 1, 1, 1, 1, dtype=torch.bool)


def test_one_class_by_hand() -> None:
    """Two voxels, told with 1/2 and 3/4, the second of the class."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1, 1)
    targets = torch.tensor([False, True]).view(1, 1, 2, 1, 1)
    found = partial_loss(logits, targets, torch.tensor([[True]]), EVERYWHERE.expand(1, 1, 2, 1, 1))
    assert found.dice.item() == pytest.approx((2 * 0.75 + 1) / (1.25 + 1 + 1))
    assert found.cross_entropy.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert found.loss.item() == pytest.approx(1 - 2.5 / 3.25 + (math.log(2) + math.log(4 / 3)) / 2)


def literal(logits: Tensor, targets: Tensor, known: Tensor, counted: Tensor) -> float:
    """Return the loss class by class, crop by crop and voxel by voxel."""
    losses = []
    for k in range(logits.shape[1]):
        both = told = true = entropy = voxels = 0.0
        for n in range(logits.shape[0]):
            if not known[n, k]:
                continue
            flat = [one.flatten().tolist() for one in (logits[n, k], targets[n, k], counted[n, 0])]
            rows = zip(*flat, strict=True)
            for logit, is_there, counts in rows:
                if counts:
                    share = 1 / (1 + math.exp(-logit))
                    both, told, true, voxels = both + share * is_there, told + share, true + is_there, voxels + 1
                    entropy -= math.log(share) if is_there else math.log(1 - share)
        if voxels:
            losses.append(1 - (2 * both + 1) / (told + true + 1) + entropy / voxels)
    return sum(losses) / len(losses)


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 3, 2, 2, generator=generator)
    targets = torch.rand(3, 4, 3, 2, 2, generator=generator) > 0.6
    known = torch.tensor([[True, True, False, False], [True, False, True, False], [False, True, True, False]])
    counted = torch.rand(3, 1, 3, 2, 2, generator=generator) > 0.2
    return logits, targets, known, counted


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_plain_version(seed: int) -> None:
    assert partial_loss(*drawn(seed)).loss.item() == pytest.approx(literal(*drawn(seed)), rel=1e-5)


def test_what_is_not_labelled_has_a_gradient_of_exactly_zero() -> None:
    """Not a small one: a class that a case is not labelled for must not learn that it is not there."""
    logits, targets, known, counted = drawn()
    logits.requires_grad_()
    partial_loss(logits, targets, known, counted).loss.backward()
    assert logits.grad is not None
    unknown = ~known[:, :, None, None, None].expand_as(logits)
    assert torch.equal(logits.grad[unknown], torch.zeros(int(unknown.sum())))
    assert torch.equal(logits.grad[(~counted).expand_as(logits)], torch.zeros(int((~counted).sum()) * 4))
    learned = ~unknown & counted
    assert bool((logits.grad[learned] != 0).all())


def test_logits_that_are_not_labelled_may_be_anything() -> None:
    logits, targets, known, counted = drawn()
    loss = partial_loss(logits, targets, known, counted).loss
    logits[~known] = torch.nan
    assert torch.equal(partial_loss(logits, targets, known, counted).loss, loss)


def test_nothing_known_is_a_loss_of_zero_with_a_gradient_of_zero() -> None:
    logits, targets, known, counted = drawn()
    logits.requires_grad_()
    for nothing in (torch.zeros_like(known), known):
        logits.grad = None
        loss = partial_loss(logits, targets, nothing, torch.zeros_like(counted)).loss
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()


def test_coarser_outputs_count_half_of_the_one_before() -> None:
    logits, targets, known, counted = drawn()
    other = drawn(5)[0]
    each = [partial_loss(one, targets, known, counted).loss.item() for one in (logits, other)]
    found = deep_loss(torch.stack([logits, other], 1), targets, known, counted)
    assert found.loss.item() == pytest.approx((each[0] + 0.5 * each[1]) / 1.5)
    assert torch.equal(found.dice, partial_loss(logits, targets, known, counted).dice)


def test_targets_are_read_off_rows() -> None:
    """Row 2 is a part and its whole."""
    members = torch.tensor([[[False, False], [True, False], [True, True]]])
    rows = torch.tensor([0, 1, 2, IGNORED], dtype=torch.uint8).view(1, 4, 1, 1)
    assert targets_of(rows, members).flatten(2).tolist() == [[[False, True, True, False], [False, False, True, False]]]


def test_a_part_is_named_before_its_whole_and_background_where_nothing_is_told() -> None:
    """Class 0 contains class 1; class 2 is apart."""
    logits = torch.tensor([[3.0, 1.0, -1.0], [3.0, -2.0, -1.0], [-1.0, -2.0, -3.0], [3.0, -5.0, 4.0]])
    found = exclusive_logits(logits.T.reshape(1, 3, 4, 1, 1), [(0, (1,))])
    assert found[0, :, :, 0, 0].T.tolist() == [
        [0, -1, 1, -1],
        [0, 2, -2, -1],
        [0, -1, -2, -3],
        [0, 3, -5, 4],
    ]
    assert found.argmax(1).flatten().tolist() == [2, 1, 0, 3]
