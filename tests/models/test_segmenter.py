"""Whole networks: MONAI's, and an encoder that pre-training fills."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR

from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder, build_segmenter
from voco_cli.models.weights import patch_merging_of, write_encoder
from voco_cli.models.weights.load import load_start

UNET = Model(backbone="unet", feature_size=2, levels=4)
SWIN = Model(backbone="swinunetr", feature_size=12)


def test_unet_is_monais_with_as_many_levels() -> None:
    ours = build_segmenter(UNET, 2, 3)
    norm = ("INSTANCE", {"affine": True})
    stock = DynUNet(3, 2, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[2, 4, 8, 16], norm_name=norm)
    stock.load_state_dict(ours.state_dict())
    volume = torch.randn(1, 2, 16, 24, 16)
    torch.testing.assert_close(ours.eval()(volume), stock.eval()(volume))


def test_deep_supervision_gives_the_finest_output_first_in_training_alone() -> None:
    network = build_segmenter(UNET, 1, 3, deep_supervision=2)
    volume = torch.randn(1, 1, 16, 16, 16)
    assert network.train()(volume).shape == (1, 3, 3, 16, 16, 16)
    assert network.eval()(volume).shape == (1, 3, 16, 16, 16)


def test_swinunetr_is_monais_second_version() -> None:
    ours = build_segmenter(SWIN, 1, 2, recompute=True)
    stock = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True)
    assert set(ours.state_dict()) == set(stock.state_dict())
    assert patch_merging_of(build_segmenter(SWIN.model_copy(update={"patch_merging": "legacy"}), 1, 2)) == "legacy"


@pytest.mark.parametrize("levels", [3, 4])
def test_a_pretrained_encoder_of_any_depth_fills_the_network(tmp_path: Path, levels: int) -> None:
    model = UNET.model_copy(update={"levels": levels})
    encoder = build_encoder(model)
    write_encoder(tmp_path, encoder, {"model": model.model_dump(mode="json"), "step": 1})
    network = build_segmenter(model, 1, 3)
    report = load_start(network, model.model_copy(update={"weights": str(tmp_path / "encoder.safetensors")}))
    assert report is not None
    assert report.encoder_share == 1.0
    own = network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in encoder.state_dict().items())


def test_weights_of_another_architecture_are_refused_in_words(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_encoder(UNET), {"model": UNET.model_dump(mode="json"), "step": 1})
    wider = UNET.model_copy(update={"feature_size": 4, "weights": str(tmp_path / "encoder.safetensors")})
    with pytest.raises(UsageError, match="filters 2-4-8-16, the network is DynUNet with filters 4-8-16-32") as caught:
        load_start(build_segmenter(wider, 1, 3), wider)
    assert caught.value.hint == (
        "choose the network of the weights: --set model.backbone=unet --set model.feature_size=2 --set model.levels=4"
    )
    swin = SWIN.model_copy(update={"weights": str(tmp_path / "encoder.safetensors")})
    with pytest.raises(UsageError, match="the network is SwinUNETR v2 of feature_size 12"):
        load_start(build_segmenter(swin, 1, 3), swin)


def test_no_weights_are_no_report() -> None:
    assert load_start(build_segmenter(UNET, 1, 3), UNET) is None


def test_four_channels_take_a_repeated_or_a_fresh_first_layer(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_encoder(UNET), {"model": UNET.model_dump(mode="json"), "step": 1})
    name = "input_block.conv1.conv.weight"
    for how in ("repeat", "reinit"):
        model = UNET.model_copy(update={"weights": str(tmp_path / "encoder.safetensors"), "input_channels": how})
        network = build_segmenter(model, 4, 3)
        fresh = network.state_dict()[name].clone()
        report = load_start(network, model)
        assert report is not None
        assert torch.equal(network.state_dict()[name], fresh) == (how == "reinit")
        assert (name in report.repeated) == (how == "repeat")
        assert any("layers for other channels are" in note for note in report.notes)
