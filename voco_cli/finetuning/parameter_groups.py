"""What moves in a fine-tuning, and how fast: frozen encoder, rates by level, a head that warms up first."""

from __future__ import annotations

import re
from collections import defaultdict

from torch import nn

from voco_cli.engine.job import ParameterGroup
from voco_cli.networks.weights.names import ENCODER_PARTS, part_of, read_name
from voco_cli.settings import Settings

_LEVELS = (
    (re.compile(r"swinViT\.patch_embed\."), lambda number: 0),
    (re.compile(r"swinViT\.layers(\d)c?\."), lambda number: number),
    (re.compile(r"encoder(1)\."), lambda number: 0),
    (re.compile(r"encoder([234])\."), lambda number: number - 2),
    (re.compile(r"encoder(10)\."), lambda number: 4),
    (re.compile(r"input_block\."), lambda number: 0),
    (re.compile(r"downsamples\.(\d+)\."), lambda number: number + 1),
)
"""Levels of an encoder by the names of its tensors; level 0 sees the voxels."""


def encoder_level(name: str, deepest: int) -> int | None:
    """The level of a tensor of an encoder, 0 at the voxels; None for decoder and head.

    Args:
        name: as the network has it; what stands before MONAI's name is passed over.
        deepest: level of the bottleneck.
    """
    plain = read_name(name).name
    if part_of(plain) not in ENCODER_PARTS:
        return None
    for pattern, level in _LEVELS:
        if match := pattern.match(plain):
            return level(int(match[1]) if match.groups() else 0)
    return deepest


def parameter_groups(network: nn.Module, settings: Settings) -> list[ParameterGroup]:
    """Groups by level, decoder and head first.

    A level k of an encoder whose last is d learns at ``task.layer_decay ** (d - k + 1)`` of the rate, after
    ``task.head_warmup`` of the steps; with ``task.freeze_encoder`` its parameters are set not to need gradients.

    Source: layer-wise rates as in Howard and Ruder, "Universal Language Model Fine-tuning", ACL 2018, Sec. 3.2.
    """
    task, model = settings.task, settings.model
    deepest = 4 if model.backbone == "swinunetr" else model.levels - 1
    by_level: dict[int | None, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        level = encoder_level(name, deepest)
        if level is not None and task.freeze_encoder:
            parameter.requires_grad_(False)
        else:
            by_level[level].append(parameter)
    still_steps = round(task.head_warmup * settings.train.steps)
    groups = [ParameterGroup(by_level.pop(None, []))]
    for level in sorted(level for level in by_level if level is not None):
        rate = task.layer_decay ** (deepest - level + 1)
        groups.append(ParameterGroup(by_level[level], rate, still_steps))
    return [group for group in groups if group.parameters]
