"""The classifier is the encoder and a linear layer, and takes the weights that a pre-training run wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from voco_cli.config.schema import Model
from voco_cli.models.build import HEAD_SD, build_classifier, build_encoder
from voco_cli.models.weights import load_into, read_weights, write_encoder, write_model

SWIN, UNET = Model(feature_size=12), Model(backbone="unet", feature_size=4, levels=3)


def volumes(channels: int = 1, edge: int = 64) -> torch.Tensor:
    return torch.rand(2, channels, edge, edge, edge, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("model", "tensors"), [(SWIN, 145), (UNET, 18)], ids=["swinunetr", "unet"])
def test_a_written_encoder_fills_the_classifiers_encoder(tmp_path: Path, model: Model, tensors: int) -> None:
    torch.manual_seed(1)
    encoder = build_encoder(model)
    write_encoder(tmp_path, encoder, {"step": 7, "model": model.model_dump(mode="json")})
    network = build_classifier(model, 1, 3)
    report = load_into(network, read_weights(tmp_path / "encoder.safetensors"))
    assert (len(report.loaded), report.unexpected, report.mismatched) == (tensors, (), ())
    assert report.missing == ("head.weight", "head.bias")
    assert report.encoder_share == 1
    with torch.no_grad():
        features, volume = encoder.eval()(volumes()[:1]), volumes()[:1]
        variance = (features - features.mean()).square().mean()
        normal = (features - features.mean()) / (variance + 1e-5).sqrt()
        by_hand = normal @ network.head.weight.T + network.head.bias
        torch.testing.assert_close(network.eval()(volume), by_hand)


def test_groups_and_recomputation_change_neither_logits_nor_gradients() -> None:
    torch.manual_seed(2)
    whole = build_classifier(UNET, 2, 3)
    single = build_classifier(UNET, 2, 3, group_size=1, recompute=True)
    single.load_state_dict(whole.state_dict())
    target = torch.tensor([2, 0])
    for network in (whole, single):
        torch.nn.functional.cross_entropy(network(volumes(2, 24)), target).backward()
    torch.testing.assert_close(single(volumes(2, 24)), whole(volumes(2, 24)))
    for (name, mine), theirs in zip(single.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def test_a_fresh_head_calls_all_categories_equal() -> None:
    torch.manual_seed(4)
    network = build_classifier(UNET, 1, 4)
    assert network.head.bias.abs().max() == 0
    weights = network.head.weight.detach()
    # 4 x 28 normal draws: their standard deviation lies within five standard errors of the true one.
    assert weights.shape == (4, 28)
    assert float(weights.std()) == pytest.approx(HEAD_SD, rel=5 / math.sqrt(2 * weights.numel()))


def test_a_written_classifier_is_read_back_whole_and_gives_its_encoder_to_others(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = build_classifier(UNET, 1, 3)
    write_model(tmp_path, network, {"step": 1, "model": UNET.model_dump(mode="json"), "task": "classification"})
    about = json.loads((tmp_path / "model.json").read_text())
    assert (about["format"], about["loads_into"]) == ("voco-model/1", "voco_cli.models.build.Classifier")

    again = build_classifier(UNET, 1, 3)
    report = load_into(again, read_weights(tmp_path / "model.safetensors"))
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name

    other = build_classifier(UNET, 1, 2)
    report = load_into(other, read_weights(tmp_path / "model.safetensors"))
    assert report.reinitialised == ("head.weight", "head.bias")
    assert any(note.startswith("Last layers") for note in report.notes)
    bare = build_encoder(UNET)
    assert len(load_into(bare, read_weights(tmp_path / "model.safetensors")).loaded) == 18
