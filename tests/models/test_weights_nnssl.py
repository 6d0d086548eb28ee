"""Checkpoints with nnssl's adaptation plan, read by the rules of nnU-Net's `like_nnssl` and `PretrainedTrainer`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import Format, Kind, export_weights, read_weights, write_encoder
from voco_cli.models.weights.write import own_tensors

RESENC = Model(backbone="resenc", feature_size=2, levels=4)
UNET = Model(backbone="unet", feature_size=2, levels=4)
ABOUT = {
    "preprocess": {"spacing_mm": [1.5, 1.5, 2.0]},
    "crops": {"size": [96, 96, 64], "input_size": [64, 64, 32]},
    "step": 7,
}


def exported(folder: Path, model: Model, in_channels: int = 1, axes: str | None = None) -> tuple[nn.Module, Path]:
    """An encoder whose every number is drawn, and its checkpoint for nnssl's readers."""
    torch.manual_seed(3)
    encoder = build_encoder(model, in_channels)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(-1, 1)
    write_encoder(folder, encoder, {"model": model.model_dump(mode="json"), **ABOUT})
    export_weights(read_weights(folder), folder / "ssl.pth", Format.NNSSL, axes)
    return encoder.eval(), folder / "ssl.pth"


def plans_like_nnssl(checkpoint: Path) -> dict[str, Any]:
    """What `nnUNetv2_preprocess_like_nnssl` writes into plans, by the keys that it asks for."""
    plan = torch.load(checkpoint, weights_only=True)["nnssl_adaptation_plan"]
    pretrained = next(iter(plan["pretrain_plan"]["configurations"].values()))
    architecture = plan["architecture_plans"]
    return {
        "network_class_name": architecture["arch_class_name"],
        "arch_kwargs": architecture["arch_kwargs"],
        "_kw_requires_import": architecture["arch_kwargs_requiring_import"],
        "spacing": pretrained["spacing"],
        "patch_size": plan["recommended_downstream_patchsize"],
        "pt_used_patchsize": pretrained["patch_size"],
        "pt_num_in_channels": plan["pretrain_num_input_channels"],
        **{name: plan[name] for name in ("key_to_encoder", "key_to_stem", "keys_to_in_proj", "key_to_lpe")},
    }


def build_from_plans(plans: dict[str, Any], in_channels: int) -> nn.Module:
    """The class by its bare name, functions imported, as nnU-Net's trainer builds its network."""
    assert plans["network_class_name"] in ("PlainConvUNet", "ResidualEncoderUNet")
    unets = import_module("dynamic_network_architectures.architectures.unet")
    arguments = dict(plans["arch_kwargs"])
    for name in plans["_kw_requires_import"]:
        if arguments[name] is not None:
            module, _, attribute = arguments[name].rpartition(".")
            arguments[name] = getattr(import_module(module), attribute)
    network: nn.Module = getattr(unets, plans["network_class_name"])(
        input_channels=in_channels, num_classes=3, deep_supervision=False, **arguments
    )
    return network


def load_like_the_trainer(network: nn.Module, plans: dict[str, Any], checkpoint: Path, in_channels: int) -> None:
    """Encoder and stem are cut out by their keys and loaded strictly; a stem is repeated over more channels."""
    given: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["network_weights"]
    parts = {}
    for key in ("key_to_encoder", "key_to_stem"):
        parts[key] = {name: tensor for name, tensor in given.items() if name.startswith(plans[key])}
    if in_channels > plans["pt_num_in_channels"]:
        first = parts["key_to_stem"][plans["keys_to_in_proj"][0] + ".weight"]
        for name in plans["keys_to_in_proj"]:
            parts["key_to_stem"][name + ".weight"] = first.repeat(1, in_channels, 1, 1, 1) / in_channels
    for key, tensors in parts.items():
        cut = {name.replace(plans[key], "").removeprefix("."): tensor for name, tensor in tensors.items()}
        network.get_submodule(getattr(network, key)).load_state_dict(cut)
    assert plans["key_to_lpe"] is None  # of position embeddings, which these networks have not


@torch.no_grad()
@pytest.mark.parametrize("model", [RESENC, UNET], ids=["resenc", "unet"])
def test_nnunet_takes_the_encoder_by_the_plan(model: Model, tmp_path: Path) -> None:
    encoder, checkpoint = exported(tmp_path, model)
    plans = plans_like_nnssl(checkpoint)
    network = build_from_plans(plans, 1)
    load_like_the_trainer(network, plans, checkpoint, 1)
    x = torch.rand(2, 1, 16, 24, 32, generator=torch.Generator().manual_seed(0))
    levels = network.eval().encoder(x.permute(0, 1, 4, 3, 2))  # type: ignore[operator]
    found = torch.cat([level.mean((2, 3, 4)) for level in levels], 1)
    torch.testing.assert_close(found, encoder(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_nnunet_repeats_the_stem_of_a_residual_encoder_over_channels(tmp_path: Path) -> None:
    encoder, checkpoint = exported(tmp_path, RESENC)
    plans = plans_like_nnssl(checkpoint)
    network = build_from_plans(plans, 2)
    load_like_the_trainer(network, plans, checkpoint, 2)
    x = torch.rand(1, 1, 16, 16, 16)
    levels = network.eval().encoder(x.permute(0, 1, 4, 3, 2).expand(-1, 2, -1, -1, -1))  # type: ignore[operator]
    found = torch.cat([level.mean((2, 3, 4)) for level in levels], 1)
    torch.testing.assert_close(found, encoder(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("axes", "spacing", "crop"), [(None, [2.0, 1.5, 1.5], [32, 64, 64]), ("xyz", None, None)])
def test_the_plan_says_what_was_trained_on_along_nnunets_axes(
    axes: str | None, spacing: list[float] | None, crop: list[int] | None, tmp_path: Path
) -> None:
    _, checkpoint = exported(tmp_path, RESENC, axes=axes)
    plans = plans_like_nnssl(checkpoint)
    assert plans["spacing"] == (spacing or [1.5, 1.5, 2.0])
    assert plans["pt_used_patchsize"] == (crop or [64, 64, 32])
    assert plans["patch_size"] == [160, 160, 160]  # of nnssl's own plans; it halves three times
    assert plans["pt_num_in_channels"] == 1
    beside = json.loads((tmp_path / "ssl.pth.adaptation_plan.json").read_text())
    assert beside == torch.load(checkpoint, weights_only=True)["nnssl_adaptation_plan"]


@pytest.mark.parametrize("model", [RESENC, UNET], ids=["resenc", "unet"])
def test_an_export_is_read_back_as_it_was(model: Model, tmp_path: Path) -> None:
    encoder, checkpoint = exported(tmp_path, model)
    again = read_weights(checkpoint)
    assert (again.kind, again.step) == (Kind.NNSSL, 7)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in own_tensors(encoder).items())


def test_a_run_without_spacing_and_a_unet_have_their_limits_said(tmp_path: Path) -> None:
    encoder = build_encoder(UNET)
    write_encoder(tmp_path, encoder, {"model": UNET.model_dump(mode="json")})
    written = export_weights(read_weights(tmp_path), tmp_path / "ssl.pth", Format.NNSSL)
    said = " ".join(written.notes)
    assert "PlainConvUNet for data of as many channels alone as the weights have: 1." in said
    assert "The spacing of the training is not known, or was not fixed" in said
    plans = plans_like_nnssl(tmp_path / "ssl.pth")
    assert (plans["spacing"], plans["pt_used_patchsize"]) == (None, [160, 160, 160])
    with pytest.raises(RuntimeError, match="size mismatch"):  # as the note says
        load_like_the_trainer(build_from_plans(plans, 2), plans, tmp_path / "ssl.pth", 2)


def test_what_nnunet_has_no_network_for_is_said(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_encoder(Model(feature_size=12)), {"model": Model(feature_size=12).model_dump()})
    with pytest.raises(UsageError, match="nnU-Net's PlainConvUNet takes the backbone unet, its ResidualEncoderUNet"):
        export_weights(read_weights(tmp_path), tmp_path / "a.pth", Format.NNSSL)
    assert not (tmp_path / "a.pth").exists()
