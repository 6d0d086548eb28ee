"""Loading: the fate of every tensor, the patch merging, other channels, and what is refused."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2
from rich.console import Console
from torch import Tensor, nn

from voco_cli.document.terminal import print_blocks
from voco_cli.errors import DataError, UsageError
from voco_cli.models.backbone import NetworkPart
from voco_cli.models.swin import LegacyPatchMerging, SwinEncoder
from voco_cli.models.unet import UNetEncoder
from voco_cli.models.weights import (
    Weights,
    infer_architecture,
    load_into,
    own_tensors,
    patch_merging_of,
    set_patch_merging,
)
from voco_cli.models.weights.architecture import build_shapes
from voco_cli.models.weights.load import LoadStatus
from voco_cli.models.weights.read import parse_weights


def swin_unetr(in_channels: int = 1, classes: int = 3, feature_size: int = 12, use_v2: bool = True) -> SwinUNETR:
    return SwinUNETR(in_channels=in_channels, out_channels=classes, feature_size=feature_size, use_v2=use_v2)


def dyn_unet(in_channels: int = 1, classes: int = 3, feature_size: int = 2) -> DynUNet:
    filters = [feature_size * 2**level for level in range(5)]
    return DynUNet(3, in_channels, classes, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=filters)


def weights_of(network: nn.Module, **about: object) -> Weights:
    return parse_weights({name: t.detach().clone() for name, t in network.state_dict().items()}, about, "made.pt")


@pytest.fixture(scope="module")
def swin_weights() -> Weights:
    torch.manual_seed(0)
    return weights_of(SwinEncoder(1, 12, "legacy"))


@pytest.fixture(scope="module")
def unet_weights() -> Weights:
    torch.manual_seed(0)
    return weights_of(UNetEncoder(1, 2))


def test_every_encoder_tensor_goes_into_monais_network(swin_weights: Weights) -> None:
    network = swin_unetr()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    report = load_into(network, swin_weights)
    # 145 tensors and 3,514,134 parameters: the reference's counts for feature_size 12
    assert [report.count(part, LoadStatus.LOADED) for part in (NetworkPart.TRANSFORMER, NetworkPart.ENCODER)] == [
        (134, 1_355_958),
        (11, 2_158_176),
    ]
    assert report.count(NetworkPart.DECODER, LoadStatus.MISSING)[0] == 22
    assert report.unexpected == report.mismatched == ()
    assert report.encoder_share == 1.0
    for name, tensor in network.state_dict().items():
        expected = swin_weights.tensors.get(name, before[name])
        assert torch.equal(tensor, expected), name


def test_unet_goes_into_dynunet_whose_second_names_do_not_count(unet_weights: Weights) -> None:
    network = dyn_unet()
    report = load_into(network, unet_weights)
    assert len(network.state_dict()) > len(own_tensors(network)) == len(report.loaded) + len(report.missing)
    assert len(report.loaded) == 30
    assert all(name.startswith(("upsamples.", "output_block.")) for name in report.missing)
    state = network.state_dict()
    assert torch.equal(
        state["skip_layers.downsample.conv1.conv.weight"], unet_weights.tensors["input_block.conv1.conv.weight"]
    )


def features(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        stages: list[Tensor] = network.eval().swinViT(x, True)
    return torch.cat([stage.mean((2, 3, 4)) for stage in stages], dim=1)


def test_the_authors_files_get_the_slices_they_were_trained_with(swin_weights: Weights) -> None:
    x = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    legacy, current = SwinEncoder(1, 12, "legacy"), SwinEncoder(1, 12, "current")
    for encoder in (legacy, current):
        encoder.load_state_dict(swin_weights.tensors)
    stock = swin_unetr()
    report = load_into(stock, swin_weights)
    assert report.patch_merging == "legacy"
    assert any("legacy slices" in note for note in report.notes)
    assert torch.equal(features(stock, x), features(legacy, x))
    assert not torch.allclose(features(legacy, x), features(current, x), atol=1e-3)


def test_our_own_weights_keep_the_slices_of_their_settings() -> None:
    encoder = SwinEncoder(1, 12, "current")
    weights = weights_of(encoder, format="voco-encoder/1", model={"backbone": "swinunetr", "patch_merging": "current"})
    network = swin_unetr()
    set_patch_merging(network, "legacy")
    assert load_into(network, weights).patch_merging == "current"
    assert patch_merging_of(network) == "current"


@pytest.mark.parametrize("start", ["merging", "mergingv2", "legacy"])
@pytest.mark.parametrize(("wanted", "kind"), [("legacy", LegacyPatchMerging), ("current", PatchMerging)])
def test_patch_merging_is_swapped_in_place(start: str, wanted: str, kind: type[PatchMergingV2]) -> None:
    network = SwinUNETR(
        in_channels=1,
        out_channels=2,
        feature_size=12,
        use_v2=True,
        downsample=LegacyPatchMerging if start == "legacy" else start,
    )
    before = {name: t.clone() for name, t in network.state_dict().items()}
    torch.manual_seed(5)
    changed = set_patch_merging(network, wanted)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1)), "random numbers were drawn"
    assert changed == ((start, wanted) not in {("merging", "current"), ("legacy", "legacy")})
    merging = [module for module in network.modules() if isinstance(module, PatchMergingV2)]
    assert len(merging) == 4
    assert {type(module) for module in merging} == {kind}
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("build", [swin_unetr, dyn_unet])
def test_more_input_channels(build: Callable[..., nn.Module], swin_weights: Weights, unet_weights: Weights) -> None:
    weights = swin_weights if build is swin_unetr else unet_weights
    first = (
        {"swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}
        if build is swin_unetr
        else {"input_block.conv1.conv.weight"}
    )
    fresh = build(in_channels=4)
    before = {name: t.clone() for name, t in fresh.state_dict().items()}
    report = load_into(fresh, weights)
    assert set(report.reinitialised) == set(report.mismatched) == first
    assert report.encoder_share == 1.0
    assert all(torch.equal(fresh.state_dict()[name], before[name]) for name in first)
    repeated = build(in_channels=4)
    report = load_into(repeated, weights, input_channels="repeat")
    assert set(report.repeated) == first
    assert report.mismatched == ()
    for name in first:
        found, source = repeated.state_dict()[name], weights.tensors[name]
        assert all(torch.equal(found[:, [channel]], source / 4) for channel in range(4))


def test_repeated_channels_give_equal_features_for_equal_channels(unet_weights: Weights) -> None:
    one, four = UNetEncoder(1, 2), UNetEncoder(4, 2)
    load_into(one, unet_weights)
    load_into(four, unet_weights, input_channels="repeat")
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(four(x.expand(1, 4, -1, -1, -1)), one(x), atol=1e-5, rtol=1e-4)


def test_other_classes_leave_the_last_layer_fresh() -> None:
    source = weights_of(swin_unetr(classes=14))
    report = load_into(swin_unetr(classes=3), source)
    assert set(report.reinitialised) == {"out.conv.conv.weight", "out.conv.conv.bias"}
    assert report.count(NetworkPart.DECODER, LoadStatus.LOADED)[0] == 20
    assert any(note.startswith("Last layers") for note in report.notes)


def test_heads_and_decoders_that_the_network_lacks_are_unexpected(swin_weights: Weights) -> None:
    whole = weights_of(swin_unetr())
    report = load_into(SwinEncoder(1, 12, "legacy"), whole)
    assert report.count(NetworkPart.DECODER, LoadStatus.UNEXPECTED)[0] == 22
    assert report.encoder_share == 1.0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: swin_unetr(feature_size=24),
            "SwinUNETR v2 of feature_size 12, the network is SwinUNETR v2 of feature",
        ),
        (lambda: swin_unetr(use_v2=False), "SwinUNETR v2 of feature_size 12, the network is SwinUNETR v1"),
        (dyn_unet, "SwinUNETR v2 of feature_size 12, the network is DynUNet with filters 2-4-8-16-32"),
        (lambda: nn.Linear(3, 3), "No tensor of made.pt fits the network"),
    ],
)
def test_weights_of_another_architecture(build: Callable[[], nn.Module], words: str, swin_weights: Weights) -> None:
    network = build()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.raises(UsageError, match=words) as raised:
        load_into(network, swin_weights)
    assert "\n" not in raised.value.message
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items()), "something was changed"


def test_a_network_that_holds_the_encoder(unet_weights: Weights) -> None:
    network = nn.ModuleDict({"encoder": UNetEncoder(1, 2), "classify": nn.Linear(62, 2)})
    report = load_into(network, unet_weights)
    assert len(report.loaded) == 30
    assert set(report.missing) == {"classify.weight", "classify.bias"}
    found = network["encoder"].state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in unet_weights.tensors.items())


def test_first_version_weights_in_a_second_version_network() -> None:
    weights = weights_of(swin_unetr(use_v2=False))
    with pytest.raises(UsageError, match="is of SwinUNETR v1 of feature_size 12, the network is SwinUNETR v2"):
        load_into(swin_unetr(), weights)


def test_less_than_asked_for(unet_weights: Weights) -> None:
    kept = {name: t for name, t in unet_weights.tensors.items() if not name.startswith("bottleneck.")}
    part = parse_weights(kept, {}, "part.pt")
    network = UNetEncoder(1, 2)
    total = sum(p.numel() for p in network.parameters())
    share = sum(t.numel() for t in kept.values()) / total
    with pytest.raises(UsageError, match=rf"fills too little of the network \({share:.1%} of the encoder fits, 100.0%"):
        load_into(network, part, min_loaded=1.0)
    report = load_into(network, part, min_loaded=share - 1e-6)
    assert report.encoder_share == pytest.approx(share)
    assert len(report.missing) == 6


def test_values_that_are_not_finite(unet_weights: Weights) -> None:
    tensors = {name: t.clone() for name, t in unet_weights.tensors.items()}
    tensors["bottleneck.norm1.bias"][3] = torch.nan
    with pytest.raises(DataError, match=r"broken\.pt holds values that are not finite in bottleneck\.norm1\.bias"):
        load_into(UNetEncoder(1, 2), parse_weights(tensors, {}, "broken.pt"))


def test_the_report_as_json_and_as_a_table(swin_weights: Weights, tmp_path: Path) -> None:
    report = load_into(swin_unetr(in_channels=2), swin_weights)
    said = json.loads(json.dumps(report.to_json()))
    assert said["parts"]["decoder"]["missing"]["tensors"] == 22
    assert said["parts"]["transformer"]["loaded"] == {"tensors": 133, "parameters": 1_355_958 - 12 * 8}
    assert said["parts"]["transformer"]["share"] == pytest.approx((1_355_958 - 96) / (1_355_958 + 96))
    assert sorted(said["reinitialised"]) == sorted(report.reinitialised)
    with (tmp_path / "table.txt").open("w") as file:
        print_blocks([report.table()], Console(width=120, file=file))
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert lines[1].split()[:5] == ["transformer", "133", "-", "-", "1"]
    assert lines[3].split()[:3] == ["decoder", "-", "22"]
    assert "142 loaded, 22 missing, 0 unexpected, 3 mismatched" in str(report)


@pytest.mark.parametrize("seed", range(5))
def test_any_share_of_tensors_is_accounted_for(unet_weights: Weights, seed: int) -> None:
    chosen = random.Random(seed)
    kept = {name: t for name, t in unet_weights.tensors.items() if chosen.random() < 0.7}
    kept = {f"strange.{name}" if chosen.random() < 0.2 else name: t for name, t in kept.items()}
    report = load_into(UNetEncoder(1, 2), parse_weights(kept, {}, "some.pt"), min_loaded=0.0)
    names = [tensor.name for tensor in report.tensors]
    assert len(names) == len(set(names))
    assert set(report.loaded) | set(report.unexpected) == set(kept)
    assert set(report.loaded) | set(report.missing) == set(unet_weights.tensors)


def test_networks_are_made_without_memory_and_know_themselves() -> None:
    for network in (swin_unetr(2, 5), swin_unetr(use_v2=False), dyn_unet(3, 4)):
        architecture = infer_architecture(own_tensors(network))
        assert architecture is not None
        shapes = build_shapes(architecture)
        assert all(t.is_meta for t in shapes.parameters())
        assert {n: t.shape for n, t in shapes.state_dict().items()} == {
            n: t.shape for n, t in network.state_dict().items()
        }
        assert eval(architecture.python_call(), {"monai": __import__("monai")}).state_dict().keys() == set(
            network.state_dict()
        )
