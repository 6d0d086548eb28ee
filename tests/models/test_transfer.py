"""What a fine-tuning takes of a pre-training that has a decoder: all but the last layer, or the encoder alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.models.backbone import NetworkPart
from voco_cli.models.build import build_decoder, build_encoder, build_segmenter
from voco_cli.models.weights import LoadReport, own_tensors, read_weights, write_encoder, write_model
from voco_cli.models.weights.load import load_start

UNET = Model(backbone="unet", feature_size=4, levels=4)
LAST = {"output_block.conv.conv.weight", "output_block.conv.conv.bias"}


def written(folder: Path, outputs: int) -> dict[str, Tensor]:
    """A pre-trained encoder and decoder in a folder, as they were."""
    torch.manual_seed(1)
    encoder = build_encoder(UNET)
    decoder = build_decoder(UNET, encoder, outputs, "segmentation")
    about = {"model": UNET.model_dump(mode="json"), "step": 3, "objectives": {"mae": 1.0}}
    assert write_model(folder, (encoder, decoder), about) == len(own_tensors(build_segmenter(UNET, 1, outputs)))
    write_encoder(folder, encoder, about)
    return {**own_tensors(encoder), **own_tensors(decoder)}


def started(folder: Path, classes: int, **changes: str) -> tuple[nn.Module, dict[str, Tensor], LoadReport]:
    """A segmenter that starts from the folder, its own fresh tensors, and the report."""
    torch.manual_seed(2)
    network = build_segmenter(UNET, 1, classes)
    fresh = {name: tensor.detach().clone() for name, tensor in own_tensors(network).items()}
    report = load_start(network, UNET.model_copy(update={"weights": str(folder), **changes}))
    assert report is not None
    return network, fresh, report


@pytest.mark.parametrize("classes", [1, 3], ids=["as many outputs", "more outputs"])
def test_all_but_the_last_layer_is_taken(tmp_path: Path, classes: int) -> None:
    """Also where its shape would fit: it gave intensities, not classes."""
    given = written(tmp_path, 1)
    network, fresh, report = started(tmp_path, classes)
    for name, tensor in own_tensors(network).items():
        assert torch.equal(tensor, fresh[name] if name in LAST else given[name]), name
    assert set(report.reinitialised) == set(report.mismatched) == LAST
    assert set(report.loaded) == set(given) - LAST
    assert any(note.startswith("Last layers") and "left fresh" in note for note in report.notes)


def test_the_encoder_alone_is_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    given = written(tmp_path, 1)
    network, fresh, report = started(tmp_path, 3, transfer="encoder")
    decoder = {name for name in given if name.startswith(("upsamples.", "output_block."))}
    for name, tensor in own_tensors(network).items():
        assert torch.equal(tensor, fresh[name] if name in decoder else given[name]), name
    assert report.share(NetworkPart.ENCODER) == report.encoder_share == 1.0
    assert report.share(NetworkPart.DECODER) == 0.0
    assert report.notes[-1] == f"The decoder is left fresh ({len(decoder)} tensors), as model.transfer=encoder asks."


def test_a_decoder_of_a_fine_tuning_keeps_its_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build_segmenter(UNET, 1, 3)
    write_model(tmp_path, network, {"model": UNET.model_dump(mode="json"), "step": 3})
    again, _, report = started(tmp_path, 3)
    assert set(report.loaded) == set(own_tensors(again))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    given = written(tmp_path, 1)
    weights = read_weights(tmp_path)
    assert weights.origin.endswith("model.safetensors")
    assert weights.is_pretrained
    assert weights.settings is not None
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["loads_into"] == "monai.networks.nets.DynUNet"
    assert described["names"] == {name: list(tensor.shape) for name, tensor in given.items()}
