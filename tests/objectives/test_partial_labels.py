"""The loss of partly labelled crops, against arithmetic by hand and a slow plain version."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voco_cli.data.case_labels import IGNORED
from voco_cli.models.class_union import Inside, exclusive_logits
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


@pytest.mark.parametrize(
    ("logits", "expected", "told"),
    [
        ([3.0, 1.0, -1.0], [2, 3, -1], 2),  # the part is told: it has what the whole had
        ([3.0, -2.0, -1.0], [3, 1, -1], 1),
        ([-1.0, -2.0, -3.0], [-1, -2, -3], 0),
        ([3.0, -5.0, 4.0], [3, -2, 4], 3),
        ([5.0, -0.25, 0.5], [5, 4.75, 0.5], 1),  # a part that is nearly told makes its whole no less likely
        ([5.0, 0.25, 0.5], [4.75, 5, 0.5], 2),  # nor does one that is hardly told lose to a class beside the whole
        ([-1.0, 2.0, 1.0], [-3, 2, 1], 2),  # a part without its whole stands for itself
    ],
)
def test_a_voxel_is_named_from_outside_in(logits: list[float], expected: list[float], told: int) -> None:
    """Class 0 contains class 1; class 2 is apart."""
    found = exclusive_logits(torch.tensor(logits).view(1, 3, 1, 1, 1), [(0, (1,))])
    assert found.flatten().tolist() == [0, *expected]
    assert int(found.argmax(1)) == told


@pytest.mark.parametrize(
    ("inside", "logits", "expected"),
    [
        ([(0, (1, 2))], [1.0, 3.0, 2.0], [-2, 3, 2]),  # two parts of one whole
        ([(1, (2,)), (0, (1, 2))], [4.0, 3.0, 1.0], [1, 3, 4]),  # 0 keeps 1; 1 gets 1 + 3 and keeps 3; 2 gets 3 + 1
        ([(0, (2,)), (1, (2,))], [3.0, 2.0, 1.0], [2, 1, 3]),  # one part of two wholes: 2 is the more that it gets
    ],
)
def test_parts_of_parts_and_of_several_wholes(inside: Inside, logits: list[float], expected: list[float]) -> None:
    found = exclusive_logits(torch.tensor(logits).view(1, 3, 1, 1, 1), inside)
    assert found.flatten().tolist() == [0, *expected]


def test_any_shares_of_a_whole_and_its_part_can_be_learned() -> None:
    """No share is out of reach, and no logit is without a gradient: each target is met from each side."""
    starts = torch.tensor([[w, p] for w in (-2.0, 2.0) for p in (-2.0, 2.0)])
    for shares in ([0.1, 0.45, 0.45], [0.5, 0.2, 0.3], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]):
        logits = starts.clone().requires_grad_()
        optimiser, target = torch.optim.Adam([logits], lr=0.05), torch.tensor(shares).expand(4, 3)
        for _ in range(400):
            optimiser.zero_grad()
            found = exclusive_logits(logits.view(4, 2, 1, 1, 1), [(0, (1,))]).flatten(1)
            torch.nn.functional.cross_entropy(found, target).backward()
            optimiser.step()
        torch.testing.assert_close(found.softmax(1), target, atol=0.02, rtol=0)
