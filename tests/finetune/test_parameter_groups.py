from __future__ import annotations

import pytest

from voco_cli.config import Settings
from voco_cli.config.schema import Model, Train
from voco_cli.config.task_schema import Task
from voco_cli.finetune.labelled_task import encoder_level, parameter_groups
from voco_cli.models.build import build_segmenter

UNET = Model(backbone="unet", feature_size=2, levels=4)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("swinViT.patch_embed.proj.weight", 0),
        ("swinViT.layers1.0.blocks.0.norm1.weight", 1),
        ("swinViT.layers4c.0.layer.conv1.conv.weight", 4),
        ("encoder1.layer.conv1.conv.weight", 0),
        ("encoder2.layer.conv1.conv.weight", 0),
        ("encoder4.layer.conv1.conv.weight", 2),
        ("encoder10.layer.conv1.conv.weight", 4),
        ("decoder5.conv_block.conv1.conv.weight", None),
        ("input_block.conv1.conv.weight", 0),
        ("encoder.downsamples.1.conv1.conv.weight", 2),
        ("bottleneck.conv1.conv.weight", 4),
        ("upsamples.0.transp_conv.conv.weight", None),
        ("head.weight", None),
    ],
)
def test_levels_of_the_encoder(name: str, level: int | None) -> None:
    assert encoder_level(name, 4) == level


def test_rates_fall_towards_the_voxels_and_the_encoder_waits() -> None:
    network = build_segmenter(UNET, 1, 3)
    settings = Settings(model=UNET, task=Task(layer_decay=0.5, head_warmup=0.1), train=Train(steps=200))
    groups = parameter_groups(network, settings)
    assert [(group.rate, group.freeze_steps) for group in groups] == [
        (1.0, 0), (0.0625, 20), (0.125, 20), (0.25, 20), (0.5, 20)
    ]  # fmt: skip
    assert [group.rate_at(19) for group in groups] == [1.0, 0, 0, 0, 0]
    assert groups[1].rate_at(20) == 0.0625
    counted = sum(parameter.numel() for group in groups for parameter in group.parameters)
    assert counted == sum(parameter.numel() for parameter in network.parameters())


def test_a_frozen_encoder_is_in_no_group_and_needs_no_gradient() -> None:
    network = build_segmenter(UNET, 1, 3)
    settings = Settings(model=UNET, task=Task(freeze_encoder=True))
    groups = parameter_groups(network, settings)
    assert len(groups) == 1
    frozen = {name.split(".")[0] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"input_block", "downsamples", "bottleneck"}
    moving = {id(parameter) for parameter in groups[0].parameters}
    assert moving == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
