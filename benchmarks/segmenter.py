"""A window through the whole SwinUNETR on one CPU thread: MONAI's stock forward against ours, same weights.

Both sides are warm and nothing is checkpointed, as in inference, so that the arithmetic alone is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.allocators import warm
from benchmarks.interleaved import compare
from benchmarks.registry import Options
from benchmarks.rows import Row
from voco_cli.models.swin import SwinSegmenter

TARGET = 1.8
TOLERANCE = 1e-5
"""Largest difference of two logits, over the largest logit."""


@dataclass(frozen=True)
class TrainingTask:
    """A network and its window, voxels along x, y, z."""

    feature_size: int = 24
    window: tuple[int, int, int] = (96, 96, 96)
    classes: int = 14


QUICK = TrainingTask(feature_size=12, window=(64, 32, 32), classes=3)


def rows(options: Options) -> Iterator[Row]:
    """One window, forward."""
    job = QUICK if options.quick else TrainingTask()
    warm()
    network = make_segmenter(job.feature_size, job.classes)
    window = torch.rand(1, 1, *job.window)
    with torch.no_grad():
        stock = network.stock_forward(window)
        error = float((stock - network.channels_last_forward(window)).abs().max() / stock.abs().max())
        yield compare(
            f"forward f={job.feature_size}, {'x'.join(map(str, job.window))}, {job.classes} classes",
            partial(network.stock_forward, window),
            partial(network.channels_last_forward, window),
            options.rounds_or(5),
            target=TARGET,
            error=error,
            tolerance=TOLERANCE,
        )


def make_segmenter(feature_size: int, classes: int) -> SwinSegmenter:
    """A network whose biases are large enough that padding shows in its output."""
    torch.manual_seed(0)
    network = SwinSegmenter(in_channels=1, out_channels=classes, feature_size=feature_size)
    network.eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)
    return network
