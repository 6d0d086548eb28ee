"""An encoder that was written goes into MONAI's own networks, every tensor of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR
from safetensors.torch import load_file
from torch import nn

from voco_cli.config.schema import Model
from voco_cli.errors import DataError, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import load_into, read_weights, write_encoder

SWIN, UNET = Model(feature_size=12), Model(backbone="unet", feature_size=4)


def swinunetr() -> nn.Module:
    network: nn.Module = SwinUNETR(1, 14, feature_size=12, use_v2=True)
    return network


def dynunet(filters: tuple[int, ...] = (4, 8, 16, 32, 64)) -> nn.Module:
    network: nn.Module = DynUNet(3, 1, 14, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=list(filters))
    return network


def written(folder: Path, model: Model) -> tuple[nn.Module, int]:
    torch.manual_seed(1)
    encoder = build_encoder(model)
    return encoder, write_encoder(folder, encoder, {"step": 7, "model": model.model_dump(mode="json")})


@pytest.mark.parametrize(
    ("model", "network", "tensors", "others"),
    [
        # 145 of the transformer and five encoder blocks; 22 of the decoder and the output stay.
        (SWIN, swinunetr, 145, 22),
        # 6 on each of five levels; 7 on each of four of the decoder, and 2 of the output stay.
        (UNET, dynunet, 30, 30),
    ],
    ids=["swinunetr", "unet"],
)
def test_every_tensor_goes_into_monais_network(
    tmp_path: Path, model: Model, network: object, tensors: int, others: int
) -> None:
    assert callable(network)
    encoder, count = written(tmp_path, model)
    assert count == tensors
    target = network()
    report = load_into(target, read_weights(tmp_path / "encoder.safetensors"))
    assert (len(report.loaded), len(report.missing), report.unexpected, report.mismatched) == (tensors, others, (), ())
    loaded = target.state_dict()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("model", [SWIN, UNET], ids=["swinunetr", "unet"])
def test_what_the_files_say(tmp_path: Path, model: Model) -> None:
    encoder, count = written(tmp_path, model)
    about = json.loads((tmp_path / "encoder.json").read_text())
    assert about["format"] == "voco-encoder/1"
    assert about["step"] == 7
    assert about["model"] == model.model_dump(mode="json")
    assert about["loads_into"].endswith("SwinUNETR" if model is SWIN else "DynUNet")
    tensors = load_file(tmp_path / "encoder.safetensors")
    assert len(tensors) == count
    assert about["names"] == {name: list(tensor.shape) for name, tensor in tensors.items()}
    assert tensors.keys() == encoder.state_dict().keys()


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        written(tmp_path / name, UNET)
        contents.append((tmp_path / name / "encoder.safetensors").read_bytes())
    assert contents[0] == contents[1]


def test_patch_merging_travels_with_the_weights(tmp_path: Path) -> None:
    for merging in ("current", "legacy"):
        written(tmp_path / merging, SWIN.model_copy(update={"patch_merging": merging}))
        assert read_weights(tmp_path / merging / "encoder.safetensors").patch_merging == merging


@pytest.mark.parametrize("network", [swinunetr, lambda: dynunet((5, 10, 20, 40, 80)), lambda: nn.Linear(2, 2)])
def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path, network: object) -> None:
    assert callable(network)
    written(tmp_path, UNET)
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UsageError):
        load_into(target, read_weights(tmp_path / "encoder.safetensors"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("damage", [b"", b"no safetensors at all", None])
def test_damaged_file(tmp_path: Path, damage: bytes | None) -> None:
    written(tmp_path, UNET)
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(DataError, match=r"encoder\.safetensors"):
        read_weights(path)
