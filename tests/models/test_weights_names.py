"""Names of tensors: prefixes key by key, branches, parts, and nnU-Net's table."""

import pytest
import torch

from voco_cli.models.backbone import NetworkPart
from voco_cli.models.weights.nnunet import dynunet_names
from voco_cli.models.weights.select import select_network
from voco_cli.models.weights.tensor_names import is_first_layer, is_last_layer, read_name

CASES = {
    "swinViT.patch_embed.proj.bias": ("swinViT.patch_embed.proj.bias", NetworkPart.TRANSFORMER, None),
    "module.swin_vit.layers1c.0.conv1.conv.weight": (
        "swinViT.layers1c.0.conv1.conv.weight",
        NetworkPart.TRANSFORMER,
        None,
    ),
    "module.backbone.encoder10.layer.conv1.conv.weight": (
        "encoder10.layer.conv1.conv.weight",
        NetworkPart.ENCODER,
        None,
    ),
    "student.swinViT.norm.weight": ("swinViT.norm.weight", NetworkPart.TRANSFORMER, "student"),
    "module.teacher.swin_vit.norm.weight": ("swinViT.norm.weight", NetworkPart.TRANSFORMER, "teacher"),
    "student.proj_head.layer1.0.weight": ("proj_head.layer1.0.weight", NetworkPart.HEAD, "student"),
    "module.teacher.layer3.0.bias": ("layer3.0.bias", NetworkPart.HEAD, "teacher"),
    "encoder.swinViT.norm.weight": ("swinViT.norm.weight", NetworkPart.TRANSFORMER, "student"),
    "encoder.encoder1.layer.conv1.conv.weight": ("encoder1.layer.conv1.conv.weight", NetworkPart.ENCODER, "student"),
    "teacher_encoder.downsamples.0.norm1.bias": ("downsamples.0.norm1.bias", NetworkPart.ENCODER, "teacher"),
    "projector.3.weight": ("projector.3.weight", NetworkPart.HEAD, "student"),
    "teacher_projector.0.bias": ("projector.0.bias", NetworkPart.HEAD, "teacher"),
    "_orig_mod.module.out.conv.conv.bias": ("out.conv.conv.bias", NetworkPart.DECODER, None),
    "upsamples.1.transp_conv.conv.weight": ("upsamples.1.transp_conv.conv.weight", NetworkPart.DECODER, None),
    "encoder.stages.0.0.convs.0.conv.weight": ("encoder.stages.0.0.convs.0.conv.weight", NetworkPart.OTHER, None),
    "layer4.0.conv.weight": ("layer4.0.conv.weight", NetworkPart.OTHER, None),
}


@pytest.mark.parametrize("key", CASES)
def test_each_key_is_understood_alone(key: str) -> None:
    found = read_name(key)
    assert (found.name, found.part, found.branch) == CASES[key]


def test_first_and_last_layers() -> None:
    assert is_first_layer("swinViT.patch_embed.proj.weight")
    assert is_first_layer("encoder1.layer.conv3.conv.weight")
    assert is_first_layer("input_block.conv1.conv.weight")
    assert not is_first_layer("swinViT.patch_embed.proj.bias")
    assert not is_first_layer("input_block.conv2.conv.weight")
    assert is_last_layer("out.conv.conv.bias")
    assert is_last_layer("deep_supervision_heads.1.conv.conv.weight")
    assert not is_last_layer("decoder1.conv_block.conv1.conv.weight")


def test_prefixes_that_differ_from_key_to_key() -> None:
    mixed = {
        "swinViT.norm.weight": torch.zeros(1),
        "module.encoder1.layer.conv1.conv.weight": torch.ones(1),
        "backbone.module.swin_vit.norm.bias": torch.full((1,), 2.0),
    }
    chosen = select_network(mixed, "student")
    assert {name: tensor.item() for name, tensor in chosen.tensors.items()} == {
        "swinViT.norm.weight": 0.0,
        "encoder1.layer.conv1.conv.weight": 1.0,
        "swinViT.norm.bias": 2.0,
    }
    assert chosen.unused == ()


def test_branches_are_not_mixed() -> None:
    both = {f"{branch}.swinViT.norm.weight": torch.full((1,), i) for i, branch in enumerate(("student", "teacher"))}
    for i, branch in enumerate(("student", "teacher")):
        chosen = select_network(both, branch)
        assert chosen.branch == branch
        assert chosen.tensors["swinViT.norm.weight"].item() == i
        assert chosen.unused == (f"{('teacher', 'student')[i]}.swinViT.norm.weight",)


def test_names_of_nnunet() -> None:
    keys = [f"encoder.stages.{stage}.0.convs.{conv}.conv.weight" for stage in range(3) for conv in range(2)]
    table = dynunet_names(
        [
            *keys,
            "encoder.stages.1.0.convs.1.norm.bias",
            "encoder.stages.1.0.convs.1.conv.bias",
            "encoder.stages.0.0.convs.0.all_modules.0.weight",
            "decoder.encoder.stages.0.0.convs.0.conv.weight",
            "decoder.stages.1.convs.0.norm.weight",
            "decoder.transpconvs.0.bias",
            "decoder.seg_layers.0.weight",
            "decoder.seg_layers.1.weight",
        ]
    )
    assert list(table.values()) == [
        "input_block.conv1.conv.weight",
        "input_block.conv2.conv.weight",
        "downsamples.0.conv1.conv.weight",
        "downsamples.0.conv2.conv.weight",
        "bottleneck.conv1.conv.weight",
        "bottleneck.conv2.conv.weight",
        "downsamples.0.norm2.bias",
        None,  # a bias before an instance norm
        None,
        None,
        "upsamples.1.conv_block.norm1.weight",
        "upsamples.0.transp_conv.conv.bias",
        "deep_supervision_heads.0.conv.conv.weight",
        "output_block.conv.conv.weight",
    ]


def test_kernels_of_nnunet_are_turned_to_our_axes() -> None:
    kernel = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    key = "encoder.stages.0.0.convs.0.conv.weight"
    turned = select_network({key: kernel}, "student").tensors["input_block.conv1.conv.weight"]
    assert turned[0, 0, 2, 1, 0] == kernel[0, 0, 0, 1, 2] == 5.0
    kept = select_network({key: kernel}, "student", nnunet_axes="xyz").tensors["input_block.conv1.conv.weight"]
    assert torch.equal(kept, kernel)
