"""Checkpoints of other trainers: wrappers, nests, averaged copies, objects of hyper-parameters."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor

from voco_cli.config.schema import Model
from voco_cli.errors import DataError, UsageError
from voco_cli.models.backbone import NetworkPart
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import Kind, Weights, load_into, read_weights
from voco_cli.models.weights.safe_unpickle import InertObject, read_torch_file
from voco_cli.models.weights.select import tensors_of

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def swin() -> Tensors:
    torch.manual_seed(0)
    return dict(build_encoder(Model(feature_size=12)).state_dict())


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def shifted(tensors: Tensors) -> Tensors:
    """Another network of the same names."""
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def within(tensors: Tensors, wrapper: str) -> Tensors:
    """Compiled or sharded part by part: the wrapper stands in the middle of a name."""
    return {name.replace(".layers1.0.", f".layers1.0.{wrapper}"): tensor for name, tensor in tensors.items()}


def read(content: Any, folder: Path, **arguments: Any) -> Weights:
    torch.save(content, folder / "file.pt")
    return read_weights(folder / "file.pt", **arguments)


def assert_is(weights: Weights, expected: Tensors) -> None:
    assert set(weights.tensors) == set(expected)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in expected.items())


LAYOUTS: dict[str, Callable[[Tensors], Any]] = {
    "fsdp": lambda t: under("_fsdp_wrapped_module.", within(t, "_fsdp_wrapped_module.")),
    "compiled parts": lambda t: under("module._orig_mod.", within(t, "_orig_mod.")),
    "checkpointed parts": lambda t: within(t, "_checkpoint_wrapped_module."),
    "_model": lambda t: {"state_dict": under("_model.", t)},
    "lightning model": lambda t: {"state_dict": under("model.", t), "pytorch-lightning_version": "2.4", "epoch": 2},
    "lightning net": lambda t: {"state_dict": under("net._orig_mod.", t)},
    "an attribute of any name": lambda t: {"state_dict": under("my_swin.inner.", t)},
    "model_state": lambda t: {"model_state": t, "optimizer_state": {}},
    "weights": lambda t: {"weights": t},
    "params": lambda t: {"params": under("module.", t)},
    "a key of any name": lambda t: {"swin_unetr_b": t, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "beside a step that is a tensor": lambda t: {"epoch": torch.tensor(3), "state_dict": t},
    "moco": lambda t: {"state_dict": {**under("module.encoder_q.", t), **under("module.encoder_k.", shifted(t))}},
    "byol": lambda t: {**under("online_encoder.", t), **under("target_encoder.", shifted(t))},
    "momentum": lambda t: {**under("backbone.", t), **under("backbone_momentum.", shifted(t))},
    "dino": lambda t: {"student": under("module.backbone.", t), "teacher": under("backbone.", shifted(t))},
    "old mlp names": lambda t: {name.replace("mlp.linear", "mlp.fc"): value for name, value in t.items()},
    "swin_vit": lambda t: {"state_dict": under("module.", {n.replace("swinViT", "swin_vit"): v for n, v in t.items()})},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_is_found_in_every_layout(layout: str, swin: Tensors, tmp_path: Path) -> None:
    weights = read(LAYOUTS[layout](swin), tmp_path)
    assert_is(weights, swin)
    assert weights.kind is Kind.SWINUNETR_ENCODER


@pytest.mark.parametrize("layout", ["moco", "byol", "dino", "momentum"])
def test_the_other_of_two_networks_can_be_chosen_as_the_note_says(layout: str, swin: Tensors, tmp_path: Path) -> None:
    student = read(LAYOUTS[layout](swin), tmp_path)
    (said,) = (note for note in student.notes if "two networks" in note)
    assert "the student is taken, the teacher left aside (--branch teacher, or --set model.weights_branch=teach" in said
    assert_is(read(LAYOUTS[layout](swin), tmp_path, branch="teacher"), shifted(swin))


COPIES: dict[str, Callable[[Tensors, Tensors], Any]] = {
    "nested": lambda raw, ema: {"model": raw, "ema": ema},
    "nested deeper": lambda raw, ema: {"model": raw, "ema": {"module": ema, "decay": 0.999}},
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    "params": lambda raw, ema: {"params": raw, "params_ema": ema},
    "lightning": lambda raw, ema: {"state_dict": {**under("model.", raw), **under("ema_model.", ema)}},
    "ema_pytorch": lambda raw, ema: {
        **under("online_model.", raw), **under("ema_model.", ema), "step": torch.tensor(9)
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", COPIES)
def test_the_raw_copy_is_taken_said_and_the_averaged_can_be_chosen(layout: str, swin: Tensors, tmp_path: Path) -> None:
    content = COPIES[layout](swin, shifted(swin))
    raw, averaged = read(content, tmp_path), read(content, tmp_path, branch="ema")
    names = {name for name in raw.tensors if name.startswith(("swinViT", "encoder"))}
    assert all(torch.equal(raw.tensors[name], swin[name]) for name in names)
    assert len(names) == 145
    assert_is(averaged, shifted(swin))
    assert (raw.branch, averaged.branch) == ("raw", "ema")
    assert raw.notes[0] == (
        "The file holds the network as it was trained (raw) and its moving average over the steps (EMA); the raw is "
        "taken, the moving average (EMA) left aside (--branch ema, or --set model.weights_branch=ema, takes that one)."
    )
    assert "the moving average (EMA) is taken, the raw left aside (--branch student" in averaged.notes[0]
    with pytest.raises(UsageError, match="but no teacher"):
        read(content, tmp_path, branch="teacher")


def test_a_lone_averaged_copy_is_taken_and_said(swin: Tensors, tmp_path: Path) -> None:
    weights = read({"ema": swin}, tmp_path)
    assert_is(weights, swin)
    assert weights.notes[0] == "The file holds the moving average (EMA) of the network only, which is taken."
    with pytest.raises(UsageError, match=r"holds one network only, and no moving average \(EMA\)"):
        read(swin, tmp_path, branch="ema")


@pytest.fixture(scope="module")
def monai_ssl() -> tuple[dict[str, Any], SwinUNETR]:
    """What MONAI's self-supervised pre-training saves, and the network whose transformer it is."""
    torch.manual_seed(0)
    network = SwinUNETR(in_channels=1, out_channels=3, feature_size=12, use_v2=False)
    state = {
        "module." + name.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"): value.clone()
        for name, value in network.state_dict().items()
        if name.startswith("swinViT.")
    }
    return {"state_dict": state}, network


def test_monais_own_pretraining_arrives_whole_as_by_its_own_loader(
    monai_ssl: tuple[dict[str, Any], SwinUNETR], tmp_path: Path
) -> None:
    content, _ = monai_ssl
    ours, theirs = (SwinUNETR(in_channels=1, out_channels=3, feature_size=12, use_v2=False) for _ in range(2))
    report = load_into(ours, read({**content, "epoch": 1}, tmp_path), min_loaded=0.0)
    theirs.load_from(content)
    assert len(report.loaded) == 126
    assert report.unexpected == ()
    transformer = {name: tensor for name, tensor in theirs.state_dict().items() if name.startswith("swinViT.")}
    assert len(transformer) == 126
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in transformer.items())


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder.", "backbone.", "model.anything."])
def test_monais_transformer_alone_behind_a_prefix(
    prefix: str, monai_ssl: tuple[dict[str, Any], SwinUNETR], tmp_path: Path
) -> None:
    content, network = monai_ssl
    state = {f"{prefix}{name.removeprefix('module.')}": value for name, value in content["state_dict"].items()}
    state[f"{prefix}rotation_head.weight"] = torch.zeros(4, 2)
    weights = read(state, tmp_path)
    assert_is(weights, {n: t for n, t in network.state_dict().items() if n.startswith("swinViT.")})
    assert weights.kind is Kind.SWIN_TRANSFORMER
    assert list(weights.heads) == ["rotation_head.weight"]


def test_a_transformer_alone_fills_what_it_is_without_an_option(swin: Tensors, tmp_path: Path) -> None:
    weights = read({name: tensor for name, tensor in swin.items() if name.startswith("swinViT.")}, tmp_path)
    assert weights.kind is Kind.SWIN_TRANSFORMER
    encoder = build_encoder(Model(feature_size=12))
    report = load_into(encoder, weights)
    assert 0.3 < report.encoder_share < 0.45
    assert (report.share(NetworkPart.TRANSFORMER), report.share(NetworkPart.ENCODER)) == (1.0, 0.0)
    assert all(torch.equal(encoder.state_dict()[name], swin[name]) for name in weights.tensors)


def test_a_vision_transformer_of_others_is_not_taken_for_ours(tmp_path: Path) -> None:
    vit = {"patch_embed.proj.weight": torch.zeros(768, 3, 16, 16), "blocks.0.attn.qkv.weight": torch.zeros(4, 4)}
    weights = read(vit, tmp_path)
    assert (weights.kind, weights.architecture) == (Kind.OTHER, None)


def test_index_tables_of_half_precision_are_never_taken(swin: Tensors, tmp_path: Path) -> None:
    tables = [name for name in swin if name.endswith("relative_position_index")]
    assert max(int(swin[name].max()) for name in tables) == 2196  # of which half precision knows no odd number
    network = build_encoder(Model(feature_size=12))
    weights = read({name: tensor.half() for name, tensor in swin.items()}, tmp_path)
    report = load_into(network, weights)
    assert all(torch.equal(network.state_dict()[name], swin[name]) for name in tables)
    assert set(tables) == set(report.missing)
    assert set(tables) <= set(weights.unused)
    assert any(note.startswith(f"{len(tables)} index tables (relative_position_index)") for note in report.notes)
    weight = "encoder1.layer.conv1.conv.weight"
    assert torch.equal(network.state_dict()[weight], swin[weight].half().float())


def test_numbers_of_another_kind_are_mismatched(swin: Tensors, tmp_path: Path) -> None:
    name = "encoder1.layer.conv1.conv.weight"
    spoilt = {**swin, name: torch.ones_like(swin[name], dtype=torch.int8)}
    report = load_into(build_encoder(Model(feature_size=12)), read(spoilt, tmp_path), min_loaded=0.0)
    assert report.mismatched == (name,)


def test_two_tensors_for_one_place_are_said(swin: Tensors, tmp_path: Path) -> None:
    name = "swinViT.patch_embed.proj.bias"
    weights = read({**swin, f"module.{name}": swin[name] + 1}, tmp_path)
    assert torch.equal(weights.tensors[name], swin[name])
    assert weights.unused == (f"module.{name}",)
    assert f"left aside is, first: module.{name}" in weights.notes[0]


def test_several_places_of_unknown_names_are_named(swin: Tensors, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tensors where a checkpoint has them") as refused:
        read({"generator": swin, "other": swin}, tmp_path)
    assert refused.value.hint == "they are under generator, other"


def test_nests_that_go_on_for_ever_end() -> None:
    content: dict[str, Any] = {"model": torch.zeros(1)}
    content["model"] = content
    assert tensors_of(content) == {}


class AttributeDict(dict[str, Any]):
    """As Lightning keeps hyper-parameters."""


AttributeDict.__module__ = "lightning_fabric.utilities.data"

HARMLESS = {
    "argparse": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("/data"), when=datetime.date(2024, 1, 2)),
    "paths": [pathlib.PosixPath("a/b"), pathlib.PureWindowsPath("C:/x")],
    "simple": types.SimpleNamespace(batch=2),
    "attributes": AttributeDict(lr=0.1),
    "arrays": {"state": ("MT19937", np.arange(4, dtype=np.uint32), 1), "curve": np.zeros((2, 3))},
    "sets": {frozenset({1, 2}): {3}},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_hyper_parameters_are_read_without_trust(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = types.ModuleType("lightning_fabric.utilities.data")
    made_up.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    for module in ("lightning_fabric", "lightning_fabric.utilities"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    monkeypatch.setitem(sys.modules, "lightning_fabric.utilities.data", made_up)
    torch.save({"state_dict": {"swinViT.norm.weight": torch.ones(2)}, "hyper": HARMLESS[name]}, tmp_path / "file.pt")
    content = read_torch_file(tmp_path / "file.pt")
    assert torch.equal(content["state_dict"]["swinViT.norm.weight"], torch.ones(2))
    if name == "argparse":
        assert type(content["hyper"]) is InertObject
        assert content["hyper"].lr == 0.1
    if name == "attributes":
        assert content["hyper"] == {"lr": 0.1}
