"""The softmax loss of the released code, by hand, by a slow plain version and by MONAI's own, and with part labels."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from voco_cli.config import load_settings
from voco_cli.errors import UsageError
from voco_cli.models.class_union import Inside, exclusive_logits
from voco_cli.objectives.partial_labels import deep_loss
from voco_cli.objectives.softmax_labels import softmax_loss, told_as

SHAPE = (3, 2, 2)
ALL = torch.ones(3, 1, *SHAPE, dtype=torch.bool)


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Return logits_NKXYZ of 3 crops and 3 classes, and index_NXYZ, 0 for background."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, *SHAPE, generator=generator), torch.randint(0, 4, (3, *SHAPE), generator=generator)


def one_hot(index_NXYZ: Tensor, num_classes: int = 3) -> Tensor:
    return torch.stack([index_NXYZ == k + 1 for k in range(num_classes)], 1)


def test_two_voxels_by_hand() -> None:
    """Of background and one class the shares are 1/2, 1/2 and 1/4, 3/4; the second voxel is of the class."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1, 1)
    targets = torch.tensor([False, True]).view(1, 1, 2, 1, 1)
    found = softmax_loss(logits, targets, torch.tensor([[True]]), torch.ones(1, 1, 2, 1, 1, dtype=torch.bool), [])
    assert found.dice.item() == pytest.approx(2 * 0.75 / (1.25 + 1), rel=1e-4)
    assert found.cross_entropy.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert found.loss.item() == pytest.approx(1 - 1.5 / 2.25 + (math.log(2) + math.log(4 / 3)) / 2, rel=1e-4)


def test_an_unlabelled_class_counts_as_background_by_hand() -> None:
    """Shares of background, a and b are 1/6, 2/6 and 3/6; only a is labelled for: 4/6 of not a, 2/6 of a."""
    logits = torch.tensor([math.log(2), math.log(3)]).view(1, 2, 1, 1, 1)
    counted = torch.ones(1, 1, 1, 1, 1, dtype=torch.bool)
    nothing = torch.zeros(1, 2, 1, 1, 1, dtype=torch.bool)
    found = softmax_loss(logits, nothing, torch.tensor([[True, False]]), counted, [])
    assert found.cross_entropy.item() == pytest.approx(math.log(6 / 4))
    assert found.dice.item() == pytest.approx(1e-5 / (1 / 3 + 1e-5))


@pytest.mark.parametrize("seed", range(3))
def test_with_complete_maps_it_is_the_loss_of_the_released_code(seed: int) -> None:
    from monai.losses import DiceCELoss

    logits, index = drawn(seed)
    known = torch.ones(3, 3, dtype=torch.bool)
    theirs = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    expected = theirs(torch.cat([torch.zeros(3, 1, *SHAPE), logits], 1), index[:, None]).item()
    assert softmax_loss(logits, one_hot(index), known, ALL, []).loss.item() == pytest.approx(expected, rel=1e-5)


def literal(logits: Tensor, index: Tensor, known: Tensor, counted: Tensor, inside: Inside) -> float:
    """Return the loss crop by crop, class by class, voxel by voxel."""
    dices, entropies = [], []
    shares_NLXYZ = exclusive_logits(logits, inside).softmax(1)
    for n in range(len(logits)):
        if not known[n].any():
            continue
        table = [0]
        for k in range(3):
            around = [whole + 1 for whole, parts in inside if k in parts and known[n, whole]]
            table.append(k + 1 if known[n, k] else around[0] if around else 0)
        shares = shares_NLXYZ[n].flatten(1).tolist()
        voxels = list(zip(index[n].flatten().tolist(), counted[n, 0].flatten().tolist(), strict=True))
        told = [
            [sum(shares[m][v] for m in range(4) if table[m] == one) for v in range(len(voxels))] for one in range(4)
        ]
        entropies += [-math.log(told[table[true]][v]) for v, (true, counts) in enumerate(voxels) if counts]
        for k in range(3):
            if known[n, k]:
                there = [(told[k + 1][v], table[true] == k + 1) for v, (true, counts) in enumerate(voxels) if counts]
                both = sum(share for share, is_there in there if is_there)
                size = sum(share + is_there for share, is_there in there)
                dices.append((2 * both + 1e-5) / (size + 1e-5))
    return 1 - sum(dices) / len(dices) + sum(entropies) / len(entropies)


@pytest.mark.parametrize("inside", [[], [(0, (1,))]], ids=["apart", "inside"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_plain_version(seed: int, inside: Inside) -> None:
    logits, index = drawn(seed)
    counted = torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)) > 0.2
    known = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    targets = one_hot(index)
    for whole, parts in inside:  # a voxel of a part is one of its whole
        targets[:, whole] |= targets[:, list(parts)].any(1)
    found = softmax_loss(logits, targets, known, counted, inside)
    assert found.loss.item() == pytest.approx(literal(logits, index, known, counted, inside), rel=1e-5)


def test_what_is_not_labelled_may_be_told_or_background_alike() -> None:
    """The loss sees what both have together: 1/6 and 3/6, or 3/6 and 1/6."""
    known = torch.tensor([[True, False]])
    counted, target = torch.ones(1, 1, 1, 1, 1, dtype=torch.bool), torch.tensor([True, False]).view(1, 2, 1, 1, 1)
    losses = [
        softmax_loss(torch.tensor([a, b]).log().view(1, 2, 1, 1, 1), target, known, counted, []).loss.item()
        for a, b in ((2.0, 3.0), (2 / 3, 1 / 3))
    ]
    assert losses[0] == pytest.approx(losses[1])


def test_ignored_voxels_and_unlabelled_crops_have_a_gradient_of_exactly_zero() -> None:
    logits, index = drawn(0)
    logits.requires_grad_()
    known = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    counted = ALL.clone()
    counted[0, 0, 0] = False
    softmax_loss(logits, one_hot(index), known, counted, []).loss.backward()
    assert logits.grad is not None
    assert not logits.grad[2].any()
    assert not logits.grad[0, :, 0].any()
    assert bool(logits.grad[1].all())
    logits.grad = None
    loss = softmax_loss(logits, one_hot(index), torch.zeros_like(known), counted, []).loss
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_part_that_is_not_labelled_counts_as_its_whole() -> None:
    """Class 0 holds 1 and 2, class 1 holds 2."""
    inside = [(0, (1, 2)), (1, (2,))]
    known = torch.tensor([[True, False, False], [False, True, False], [True, True, False], [False, False, True]])
    assert told_as(known, inside).tolist() == [[0, 1, 1, 1], [0, 0, 2, 2], [0, 1, 2, 2], [0, 0, 0, 3]]


def test_coarser_outputs_are_summed_as_with_sigmoids() -> None:
    (logits, index), other = drawn(0), drawn(5)[0]
    known = torch.ones(3, 3, dtype=torch.bool)
    rule = partial(softmax_loss, inside=[])
    each = [rule(one, one_hot(index), known, ALL).loss.item() for one in (logits, other)]
    found = deep_loss(torch.stack([logits, other], 1), one_hot(index), known, ALL, rule)
    assert found.loss.item() == pytest.approx((each[0] + 0.5 * each[1]) / 1.5)


def test_the_recipes_of_the_authors_have_it_and_thresholds_do_not_go_with_it() -> None:
    for recipe in ("voco-semi", "voco-omni"):
        assert load_settings(recipe).settings.objective.supervised.loss == "softmax"
    with pytest.raises(UsageError, match=r"objective.supervised.loss softmax needs pseudo-labels of all voxels"):
        load_settings("semi", None, ["objective.supervised.loss=softmax"])
