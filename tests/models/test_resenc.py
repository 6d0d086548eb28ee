"""The residual encoder U-Net against the package's own, and against files that nnU-Net and nnssl write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import Tensor, nn
from torch.nn import functional as F

from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.pretrain.tiny_run import tiny_run, write_data
from voco_cli.config import load_settings
from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder, build_segmenter
from voco_cli.models.resenc import BLOCKS, ResEncArchitecture, ResEncEncoder, infer_architecture
from voco_cli.models.weights import Format, Kind, export_weights, load_into, read_weights, write_encoder, write_model
from voco_cli.models.weights.load import load_start
from voco_cli.models.weights.write import own_tensors

TINY = Model(backbone="resenc", feature_size=2, levels=3, size="S")
SMALL = Model(backbone="resenc", feature_size=2, levels=4)


def stock(features: list[int], blocks: list[int], in_channels: int = 1, classes: int = 3, **other: Any) -> nn.Module:
    """The package's network as nnU-Net's planner asks for it."""
    levels = len(features)
    arguments: dict[str, Any] = {
        "kernel_sizes": [[3, 3, 3]] * levels,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (levels - 1)],
        "n_conv_per_stage_decoder": [1] * (levels - 1),
        **other,
    }
    return ResidualEncoderUNet(
        in_channels,
        levels,
        features,
        nn.Conv3d,
        n_blocks_per_stage=blocks,
        num_classes=classes,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **arguments,
    )


def drawn(network: nn.Module, seed: int = 3) -> nn.Module:
    """Draw the numbers of norms and biases too: a fresh residual block adds nothing to what it gets."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(-1, 1, generator=generator)
    return network.eval()


def volume(*edges: int, channels: int = 1) -> Tensor:
    return torch.rand(2, channels, *edges, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_whole_network_computes_as_the_packages() -> None:
    ours = drawn(build_segmenter(SMALL, 2, 3))
    theirs = stock([2, 4, 8, 16], [1, 3, 4, 6], in_channels=2)
    theirs.load_state_dict(ours.state_dict())
    x = volume(16, 24, 16, channels=2)
    assert torch.equal(ours(x), theirs.eval()(x))


@torch.no_grad()
def test_the_encoder_pools_every_level_of_the_packages() -> None:
    ours = drawn(build_encoder(SMALL))
    theirs = stock([2, 4, 8, 16], [1, 3, 4, 6])
    assert not theirs.load_state_dict(ours.state_dict(), strict=False).unexpected_keys
    x = volume(16, 16, 24)
    embeddings = ours(x)
    assert embeddings.shape == (2, ours.out_features) == (2, 2 + 4 + 8 + 16)
    assert torch.equal(embeddings, torch.cat([level.mean((2, 3, 4)) for level in theirs.encoder(x)], 1))
    torch.testing.assert_close(ours(x[1:]), embeddings[1:])  # an encoder never mixes crops


def test_sizes_are_nnunets() -> None:
    """956 names are those of nnssl's published ResEnc-L; its 2 x 264 own tensors hold 102 million numbers."""
    encoder = build_encoder(Model(backbone="resenc", feature_size=32, levels=3, size="S"))
    assert encoder.out_features == 32 + 64 + 128
    large = ResEncArchitecture((32, 64, 128, 256, 320, 320), 1, 2, (1, 3, 4, 6, 6, 6))
    shapes = list(large.shapes())
    assert (len(shapes), sum(math.prod(shape) for _, shape in shapes)) == (264, 102_349_770)
    with torch.device("meta"):
        named = stock([32, 64, 128, 256, 320, 320], [1, 3, 4, 6, 6, 6], classes=2).state_dict()
    assert len(named) == 956
    assert {name: tuple(named[name].shape) for name, _ in shapes} == dict(shapes)
    assert large.is_ours
    assert large.settings() == {"backbone": "resenc", "feature_size": 32, "levels": 6, "size": "L"}
    assert BLOCKS["M"] == BLOCKS["L"]
    small = sum(math.prod(s) for _, s in ResEncArchitecture(large.filters, 1, 2, (1, 2, 2, 2, 2, 2)).shapes())
    assert small < 0.5 * 102_349_770


def test_coarser_outputs_are_the_packages_in_training_alone() -> None:
    network = build_segmenter(SMALL, 1, 3, deep_supervision=1)
    theirs = stock([2, 4, 8, 16], [1, 3, 4, 6], deep_supervision=True)
    theirs.load_state_dict(network.state_dict())
    x = volume(16, 16, 16)
    with torch.no_grad():
        finest, coarser, _ = theirs(x)
        assert torch.equal(network.eval()(x), finest)
    outputs = network.train()(x)
    assert outputs.shape == (2, 2, 3, 16, 16, 16)
    torch.testing.assert_close(outputs[:, 0], finest)
    torch.testing.assert_close(outputs[:, 1], F.interpolate(coarser, (16, 16, 16)))
    outputs.sum().backward()
    still = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert still == ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"]
    assert not any(network.get_parameter(name).requires_grad for name in still)


NETWORKS = (
    ResEncArchitecture((2, 4, 8), 1, 3, (1, 2, 2)),
    ResEncArchitecture((3, 5, 5), 2, 4, (2, 1, 3), stem=4),
    ResEncArchitecture(
        (2, 4, 8), 1, 2, (1, 3, 4), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    ),
    ResEncArchitecture((2, 4, 8), 1, 2, (1, 3, 4), decoder_convs=(2, 1)),
)


@pytest.mark.parametrize("architecture", NETWORKS, ids=str)
def test_tensors_tell_their_network(architecture: ResEncArchitecture) -> None:
    found = infer_architecture(own_tensors(architecture.build()))
    assert found == architecture
    encoder = {name: tensor for name, tensor in architecture.meta_tensors().items() if name.startswith("encoder.")}
    assert infer_architecture(encoder).classes == 14  # type: ignore[union-attr]
    assert architecture.is_ours == (architecture is NETWORKS[0])
    namespace = {name: __import__(name) for name in ("torch", "dynamic_network_architectures")}
    made = eval(architecture.python_call(), namespace)
    assert {name: tuple(tensor.shape) for name, tensor in own_tensors(made).items()} == dict(architecture.shapes())


TWO_STEPS = (
    *("train.steps=2", "train.validate_every=2", "train.checkpoint_every=2"),
    *("model.backbone=resenc", "model.levels=3", "model.size=S", "model.feature_size=2"),
)


def test_a_pretrained_encoder_goes_into_fine_tuning_whole(tmp_path: Path) -> None:
    tiny_run(write_data(tmp_path / "scans", 2, 2), tmp_path / "pretrained", *TWO_STEPS)
    described = json.loads((tmp_path / "pretrained" / "weights" / "encoder.json").read_text())
    assert described["loads_into"] == "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    # The stem and five blocks have convolutions of two tensors with norms of two, and two short cuts have no bias.
    assert len(described["names"]) == 4 + 5 * 8 + 2 * 3

    start = f"model.weights={tmp_path / 'pretrained'}"
    more = ("task.deep_supervision=1", "task.layer_decay=0.5")
    tuned = tiny_finetune(make_data(tmp_path / "task"), tmp_path / "tuned", *TWO_STEPS, start, *more)
    report = json.loads((tmp_path / "tuned" / "weights_report.json").read_text())
    assert report["encoder_share"] == 1.0
    assert report["parts"]["encoder blocks"]["loaded"]["tensors"] == len(described["names"])
    assert all(name.startswith("decoder.") for name in report["missing"])
    assert tuned.evaluation is not None  # whole scans were predicted, window by window

    # Without the file beside it that says what a checkpoint is, its kernels are still ours: nnU-Net has no safetensors.
    checkpoint = next((tmp_path / "pretrained" / "checkpoints").glob("step-*")) / "model.safetensors"
    (tmp_path / "moved.safetensors").write_bytes(checkpoint.read_bytes())
    moved, whole = read_weights(tmp_path / "moved.safetensors"), read_weights(tmp_path / "pretrained")
    assert moved.kind is Kind.VOCO_CHECKPOINT
    assert all(torch.equal(moved.tensors[name], tensor) for name, tensor in whole.tensors.items())


def nnunet_file(path: Path, network: nn.Module, **more: Any) -> Path:
    torch.save({"network_weights": network.state_dict(), **more}, path)
    return path


@torch.no_grad()
def test_a_checkpoint_of_nnunet_gives_its_features_on_our_axes(tmp_path: Path) -> None:
    theirs = drawn(stock([2, 4, 8], [1, 2, 2]))
    plans = {"init_args": {"plans": {"transpose_forward": [2, 0, 1]}}}
    weights = read_weights(nnunet_file(tmp_path / "final.pth", theirs, **plans))
    assert (weights.kind, weights.architecture) == (Kind.RESENC, NETWORKS[0])
    encoder = ResEncEncoder(1, 2, 3, "S").eval()
    report = load_into(encoder, weights)
    assert report.encoder_share == 1.0
    # Readers give z, y, x; taking 2, 0, 1 of these makes x, z, y.
    x = volume(8, 12, 16)
    found = torch.cat([level.mean((2, 3, 4)) for level in theirs.encoder(x.permute(0, 1, 2, 4, 3))], 1)
    torch.testing.assert_close(encoder(x), found, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_checkpoint_of_nnssl_fills_encoder_and_decoder(tmp_path: Path) -> None:
    """As a masked autoencoder leaves it: one output channel, and a plan of how to go on."""
    theirs = drawn(stock([2, 4, 8], [1, 2, 2], classes=1))
    plan = {"architecture_plans": {"arch_class_name": "ResEncL"}, "pretrain_plan": {"transpose_forward": [0, 1, 2]}}
    file = nnunet_file(tmp_path / "ssl.pth", theirs, nnssl_adaptation_plan=plan, citations=[], trainer_name="MAE")
    weights = read_weights(file)
    assert (weights.kind, weights.kind.words) == (Kind.NNSSL, "pre-training checkpoint with nnssl's adaptation plan")
    model = TINY.model_copy(update={"weights": str(file)})
    network = build_segmenter(model, 2, 1).eval()  # one class: its layer would fit, and gave intensities
    report = load_start(network, model)
    assert report is not None
    assert report.missing == ()
    assert set(report.reinitialised) == {
        "encoder.stem.convs.0.conv.weight",
        *(f"decoder.seg_layers.{number}.{leaf}" for number in range(2) for leaf in ("weight", "bias")),
    }


@torch.no_grad()
@pytest.mark.parametrize("file_format", [Format.SAFETENSORS, Format.MONAI])
def test_our_own_files_keep_their_axes(tmp_path: Path, file_format: Format) -> None:
    encoder = drawn(build_encoder(TINY))
    write_encoder(tmp_path, encoder, {"model": TINY.model_dump(mode="json")})
    name = "a.safetensors" if file_format is Format.SAFETENSORS else "a.pt"
    export_weights(read_weights(tmp_path), tmp_path / name, file_format)
    again = read_weights(tmp_path / name)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in own_tensors(encoder).items())
    assert again.notes == ()


@torch.no_grad()
def test_the_package_reads_an_export_for_nnunet(tmp_path: Path) -> None:
    ours = drawn(build_segmenter(TINY, 1, 3))
    write_model(tmp_path, ours, {"model": TINY.model_dump(mode="json")})
    written = export_weights(read_weights(tmp_path), tmp_path / "a.pth", Format.NNUNET)
    content = torch.load(tmp_path / "a.pth", weights_only=True)["network_weights"]
    theirs = stock([2, 4, 8], [1, 2, 2])
    own = theirs.state_dict()
    outputs = {name: tensor for name, tensor in own.items() if ".seg_layers." in name}
    theirs.load_state_dict({**content, **outputs})  # strict: nnU-Net wants all names but those of the outputs
    theirs.decoder.seg_layers[-1].load_state_dict(ours.decoder.seg_layers[-1].state_dict())
    x = volume(8, 12, 16)
    turned = theirs.eval()(x.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(turned, ours(x), atol=1e-4, rtol=1e-4)
    assert written.tensors == len(own_tensors(theirs)) - 4 == len({one.data_ptr() for one in content.values()})
    entry = json.loads(written.files[1].read_text())["architecture"]
    assert entry["network_class_name"].endswith(".ResidualEncoderUNet")
    assert entry["arch_kwargs"]["n_blocks_per_stage"] == [1, 2, 2]
    assert not any("fresh one" in note for note in written.notes)


def test_a_fresh_decoder_and_uneven_kernels_are_for_nnunets_axes(tmp_path: Path) -> None:
    network = drawn(NETWORKS[2].build())
    tensors = {name: one for name, one in own_tensors(network).items() if not name.startswith("decoder.seg")}
    write_like_nnunet = nnunet_file(tmp_path / "a.pth", network, init_args={"plans": {"transpose_forward": [2, 1, 0]}})
    weights = read_weights(write_like_nnunet)  # its arrays are x, y, z already
    assert weights.architecture == NETWORKS[2]
    torch.manual_seed(4)
    written = export_weights(weights, tmp_path / "b.pth", Format.NNUNET)
    afterwards = torch.rand(1)
    torch.manual_seed(4)
    assert torch.equal(afterwards, torch.rand(1))
    arguments = json.loads(written.files[1].read_text())["architecture"]["arch_kwargs"]
    assert arguments["kernel_sizes"][0] == [3, 3, 1]
    assert arguments["strides"][1] == [2, 2, 1]
    kernel = torch.load(tmp_path / "b.pth", weights_only=True)["network_weights"]["encoder.stem.convs.0.conv.weight"]
    assert torch.equal(kernel, tensors["encoder.stem.convs.0.conv.weight"].permute(0, 1, 4, 3, 2))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("crops.input_size=24x24x20", "24x24x20, not multiples of 8 voxels (resenc)"),
        ("crops.input_size=8x8x8", "crops reach the network as 8x8x8, and the least is 16x8x8 (resenc)"),
        ("model.size=XL", "input should be 'S', 'M' or 'L' (got 'XL')"),
    ],
)
def test_what_does_not_fit_is_said(setting: str, said: str) -> None:
    asked = ("model.backbone=resenc", "model.levels=4", "crops.input_size=24x24x24", setting)
    with pytest.raises(UsageError) as caught:
        load_settings("debug", None, asked)
    assert said in caught.value.message


def test_weights_of_another_size_are_refused_with_what_chooses_it(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_encoder(SMALL), {"model": SMALL.model_dump(mode="json")})
    asked = SMALL.model_copy(update={"size": "S", "weights": str(tmp_path / "encoder.safetensors")})
    with pytest.raises(
        UsageError, match=r"2-4-8-16 channels and 1-3-4-6 blocks, the network is .* 1-2-2-2 blocks"
    ) as no:
        load_start(build_segmenter(asked, 1, 3), asked)
    assert no.value.hint == (
        "choose the network of the weights: --set model.backbone=resenc --set model.feature_size=2 "
        "--set model.levels=4 --set model.size=L"
    )


def test_a_masked_autoencoder_hands_encoder_and_decoder_on(tmp_path: Path) -> None:
    asked = ("objective.voco.weight=0", "objective.mae.weight=1", "objective.mae.decoder=segmentation")
    tiny_run(write_data(tmp_path / "scans", 2, 2), tmp_path / "mae", *TWO_STEPS, *asked, "objective.mae.cube_vox=8")
    model = TINY.model_copy(update={"weights": str(tmp_path / "mae")})
    network = build_segmenter(model, 1, 3)
    report = load_start(network, model)
    assert report is not None
    assert report.encoder_share == 1.0
    last = {f"decoder.seg_layers.{number}.{leaf}" for number in range(2) for leaf in ("weight", "bias")}
    assert set(report.loaded) == set(own_tensors(network)) - last
    taken, own = read_weights(tmp_path / "mae").tensors, own_tensors(network)
    assert all(torch.equal(own[name], taken[name]) for name in report.loaded)
