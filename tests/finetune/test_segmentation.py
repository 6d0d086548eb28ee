from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from voco_cli.finetune.segmentation import class_dice, dice_figures, supervised_loss


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
