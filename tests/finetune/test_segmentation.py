"""The loss where some voxels were annotated by nobody: by hand, by a slow plain version, and its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from voco_cli.config.task_schema import LabelClass, Task
from voco_cli.finetune.segmentation import AnnotatedDiceCE, class_dice, dice_figures, segmentation_loss, supervised_loss
from voco_cli.tasks.targets import IGNORED


def test_dice_of_each_class_by_hand() -> None:
    reference = np.array([0, 1, 1, 2, 2, 2, 0, 0], np.uint8)
    prediction = np.array([0, 1, 2, 2, 2, 0, 0, 4], np.uint8)
    dice = class_dice(prediction, reference, 4)
    assert dice[:2] == pytest.approx([2 * 1 / (2 + 1), 2 * 2 / (3 + 3)])
    assert math.isnan(dice[2])  # in neither map
    assert dice[3] == 0.0  # only predicted


def test_the_figure_is_the_mean_of_the_classes_means() -> None:
    rows = np.array([[0.8, 0.5], [0.6, math.nan]])
    figures = dice_figures(rows, ["a", "b"])
    assert figures == pytest.approx({"dice": 0.6, "error": 0.4, "dice/a": 0.7, "dice/b": 0.5})


def test_nothing_there_and_nothing_predicted_is_undefined_and_better_than_a_false_positive() -> None:
    assert dice_figures(np.full((2, 1), math.nan), ["a"]) == {"error": 0.0}
    nothing = np.zeros(8, np.uint8)
    found = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.uint8)
    rows = np.array([class_dice(nothing, nothing, 1), class_dice(found, nothing, 1)])
    assert dice_figures(rows, ["a"]) == {"dice": 0.0, "error": 1.0, "dice/a": 0.0}


def test_coarser_outputs_weigh_half_of_the_one_before() -> None:
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(1, 2, 4, 4, 4, generator=generator) for _ in range(3)]
    labels = torch.randint(0, 2, (1, 1, 4, 4, 4), generator=generator)
    one, two, three = (float(criterion(output, labels)) for output in outputs)
    assert float(supervised_loss(criterion, outputs, labels)) == pytest.approx((one + two / 2 + three / 4) / 1.75)
    assert float(supervised_loss(criterion, outputs[:1], labels)) == pytest.approx(one)


def test_the_loss_of_a_patch_without_foreground_is_finite() -> None:
    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    logits = torch.zeros(1, 3, 4, 4, 4, requires_grad=True)
    loss = supervised_loss(criterion, [logits], torch.zeros(1, 1, 4, 4, 4))
    loss.backward()
    # Cross entropy is log 3; soft Dice of two classes that are not there is next to 0: (1e-5) / (64 / 3 + 1e-5).
    assert float(loss.detach()) == pytest.approx(math.log(3) + 1, abs=1e-5)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


CLASSES = (LabelClass(name="a", values=1), LabelClass(name="b", values=2))
SMOOTH = 1e-5


def drawn(seed: int = 0, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Logits of two patches and three outputs, and labels of which a share is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < share] = IGNORED
    return logits, labels


def plain(logits: Tensor, labels: Tensor, first_class: int) -> float:
    """Voxel by voxel, in the annotated ones alone."""
    values, indices = logits.detach().numpy(), labels.numpy()[:, 0]
    dices, entropies = [], []
    for patch in range(len(values)):
        voxels = [place for place in np.ndindex(indices.shape[1:]) if indices[patch][place] != IGNORED]
        shares = []
        for place in voxels:
            exponents = np.exp(values[patch][(slice(None), *place)])
            shares.append(exponents / exponents.sum())
            entropies.append(-math.log(shares[-1][indices[patch][place]]))
        for one in range(first_class, 3):
            truth = [float(indices[patch][place] == one) for place in voxels]
            predicted = [share[one] for share in shares]
            both = sum(t * p for t, p in zip(truth, predicted, strict=True))
            dices.append(1 - (2 * both + SMOOTH) / (sum(truth) + sum(predicted) + SMOOTH))
    return float(np.mean(dices) + np.mean(entropies))


@pytest.mark.parametrize("background", [False, True])
def test_only_annotated_voxels_count(background: bool) -> None:
    logits, labels = drawn()
    loss = AnnotatedDiceCE(include_background=background)(logits, labels)
    assert float(loss.detach()) == pytest.approx(plain(logits, labels, 0 if background else 1), abs=1e-6)


def test_the_gradient_of_an_ignored_voxel_is_exactly_zero() -> None:
    logits, labels = drawn()
    outputs = [logits, 0.5 * logits]  # deep supervision
    supervised_loss(AnnotatedDiceCE(include_background=False), outputs, labels).backward()
    assert logits.grad is not None
    ignored = (labels == IGNORED).expand_as(logits)
    assert torch.count_nonzero(logits.grad[ignored]) == 0
    assert torch.count_nonzero(logits.grad[~ignored]) == (~ignored).sum()


def test_what_the_network_says_of_ignored_voxels_changes_nothing() -> None:
    logits, labels = drawn()
    other = torch.where(labels == IGNORED, 100.0 * torch.randn_like(logits), logits)
    criterion = AnnotatedDiceCE(include_background=True)
    assert torch.equal(criterion(logits, labels), criterion(other, labels))


@pytest.mark.parametrize("background", [False, True])
def test_without_ignored_voxels_it_is_the_usual_loss(background: bool) -> None:
    logits, labels = drawn(share=0.0)
    usual = DiceCELoss(include_background=background, to_onehot_y=True, softmax=True)(logits, labels)
    ours = AnnotatedDiceCE(include_background=background)(logits, labels)
    torch.testing.assert_close(ours, usual, rtol=1e-6, atol=1e-6)


def test_a_patch_that_nobody_annotated_teaches_nothing() -> None:
    logits, labels = drawn(share=1.1)
    loss = AnnotatedDiceCE(include_background=False)(logits, labels)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 0


def test_tasks_without_such_a_value_keep_their_loss() -> None:
    assert isinstance(segmentation_loss(Task(name="x", classes=CLASSES)), DiceCELoss)
    assert isinstance(segmentation_loss(Task(name="x", classes=CLASSES, ignore_value=3)), AnnotatedDiceCE)
