"""Export: other programs load the file as they do, and compute what our encoder computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.errors import DataError, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.swin import SwinEncoder
from voco_cli.models.unet import UNetEncoder
from voco_cli.models.weights import (
    Format,
    export_weights,
    load_into,
    patch_merging_of,
    read_weights,
    write_encoder,
    write_model,
)
from voco_cli.models.weights.nnunet import halving_patch
from voco_cli.models.weights.read import parse_weights

SWIN = Model(feature_size=12)
UNET = Model(backbone="unet", feature_size=4)
FILTERS = [4, 8, 16, 32, 64]


def run_of(folder: Path, model: Model) -> nn.Module:
    """A run with an encoder whose every number is drawn, norms too."""
    torch.manual_seed(3)
    encoder = build_encoder(model)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(-1, 1)
    write_encoder(folder / "weights", encoder, {"step": 9, "model": model.model_dump(mode="json")})
    return encoder.eval()


def crop(edge: int = 32) -> Tensor:
    return torch.rand(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))


def unet_levels(network: nn.Module, x: Tensor) -> list[Tensor]:
    levels = []
    for block in (network.input_block, *network.downsamples, network.bottleneck):
        x = block(x)
        levels.append(x)
    return levels


def swin_embedding(network: nn.Module, x: Tensor) -> Tensor:
    stages = network.swinViT(x, True)
    levels = (
        network.encoder1(x),
        network.encoder2(stages[0]),
        network.encoder3(stages[1]),
        network.encoder4(stages[2]),
        network.encoder10(stages[4]),
    )
    return torch.cat([level.mean((2, 3, 4)) for level in levels], dim=1)


def dyn_unet(**more: Any) -> DynUNet:
    return DynUNet(3, 1, 3, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=FILTERS, **more)


@torch.no_grad()
def test_monai_swinunetr_computes_the_same(tmp_path: Path) -> None:
    encoder = run_of(tmp_path / "run", SWIN)
    export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pt", Format.MONAI)
    network = SwinUNETR(in_channels=1, out_channels=3, feature_size=12, use_v2=True).eval()
    result = network.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True), strict=False)
    assert result.unexpected_keys == []
    assert len(result.missing_keys) == 22
    torch.testing.assert_close(swin_embedding(network, crop(64)), encoder(crop(64)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_monai_dynunet_computes_the_same(tmp_path: Path) -> None:
    encoder = run_of(tmp_path / "run", UNET)
    export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pt", Format.MONAI)
    network = dyn_unet().eval()
    assert network.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True), strict=False).unexpected_keys == []
    means = torch.cat([level.mean((2, 3, 4)) for level in unet_levels(network, crop())], dim=1)
    torch.testing.assert_close(means, encoder(crop()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("supervised", [0, 2])
def test_a_whole_dynunet_loads_strictly(tmp_path: Path, supervised: int) -> None:
    more = {"deep_supervision": True, "deep_supr_num": supervised} if supervised else {}
    source, target = dyn_unet(**more).eval(), dyn_unet(**more).eval()
    write_model(tmp_path, source, {"model": UNET.model_dump(mode="json")})
    export_weights(read_weights(tmp_path), tmp_path / "a.pt", Format.MONAI)
    target.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(source(crop()), target(crop()))


@pytest.mark.parametrize("merging", ["current", "legacy"])
@pytest.mark.parametrize("file_format", [Format.SAFETENSORS, Format.MONAI, Format.AUTHORS])
def test_an_export_remembers_its_patch_merging(tmp_path: Path, merging: Any, file_format: Format) -> None:
    encoder = run_of(tmp_path / "run", Model(feature_size=12, patch_merging=merging))
    written = export_weights(read_weights(tmp_path / "run"), tmp_path / f"a.{file_format}", file_format)
    (tmp_path / f"a.{file_format}").rename(tmp_path / ("a.safetensors" if file_format == "safetensors" else "a.pt"))
    again = read_weights(tmp_path / ("a.safetensors" if file_format == "safetensors" else "a.pt"))
    assert again.patch_merging == merging
    assert again.step == 9
    network = SwinEncoder(1, 12, "current" if merging == "legacy" else "legacy")
    load_into(network, again)
    assert patch_merging_of(network) == merging
    own = encoder.state_dict()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in own.items())
    aloud = {(Format.MONAI, "legacy"): "MONAI before 1.5", (Format.AUTHORS, "current"): "MONAI 1.5 and newer"}
    said = aloud.get((file_format, merging))
    assert [said in note for note in written.notes if said] == ([True] if said else [])


def test_the_authors_layout(tmp_path: Path) -> None:
    encoder = run_of(tmp_path / "run", SWIN)
    written = export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pt", Format.AUTHORS)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert written.tensors == len(content) == 145
    assert {name.partition(".")[0] for name in content} == {
        "swinViT",
        "encoder1",
        "encoder2",
        "encoder3",
        "encoder4",
        "encoder10",
    }
    assert all(torch.equal(content[name], tensor) for name, tensor in encoder.state_dict().items())


def plain_conv_unet(plans: Path, classes: int) -> nn.Module:
    """The network that nnU-Net makes of its plans: classes by name, functions imported."""
    from importlib import import_module

    def load(name: str) -> Any:
        module, _, attribute = name.rpartition(".")
        return getattr(import_module(module), attribute)

    written = json.loads(plans.read_text())
    architecture = written.get("architecture") or written["configurations"]["3d_fullres"]["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        arguments[name] = load(arguments[name]) if arguments[name] is not None else None
    network: nn.Module = load(architecture["network_class_name"])(
        input_channels=1, num_classes=classes, deep_supervision=False, **arguments
    )
    return network.eval()


def load_as_nnunet_does(network: nn.Module, file: Path) -> None:
    """nnU-Net's rule: every tensor but the output layers must be there, of the same shape."""
    given = torch.load(file, weights_only=False)["network_weights"]
    own = network.state_dict()
    for name, tensor in own.items():
        if ".seg_layers." not in name:
            assert name in given, name
            assert given[name].shape == tensor.shape, name
    network.load_state_dict({**own, **{n: t for n, t in given.items() if n in own and ".seg_layers." not in n}})


def plans_of(folder: Path, forward: list[int], patch_vox: list[int], channels: int = 1) -> Path:
    """Plans as nnU-Net writes them for a data set, with what matters here."""
    full = {"data_identifier": "nnUNetPlans_3d_fullres", "patch_size": patch_vox, "batch_size": 2, "architecture": {}}
    plans = {
        "dataset_name": "Dataset007_Organ",
        "plans_name": "nnUNetPlans",
        "transpose_forward": forward,
        "configurations": {
            "2d": {**full, "patch_size": patch_vox[1:]},
            "3d_lowres": {**full, "data_identifier": "nnUNetPlans_3d_lowres", "next_stage": "3d_cascade_fullres"},
            "3d_fullres": full,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
            "3d_large": {"inherits_from": "3d_fullres", "batch_size": 5},
        },
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(channels)},
    }
    file = folder / "Dataset007_Organ" / "nnUNetPlans.json"
    file.parent.mkdir()
    file.write_text(json.dumps(plans))
    return file


def order(forward: list[int]) -> list[int]:
    """How to turn our x, y, z into nnU-Net's array: its readers give z, y, x, which the preprocessor then permutes."""
    return [0, 1, *([4, 3, 2][axis] for axis in forward)]


@torch.no_grad()
@pytest.mark.parametrize("forward", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_nnunet_computes_the_same_encoder_features_on_its_own_arrays(tmp_path: Path, forward: Any) -> None:
    encoder = run_of(tmp_path / "run", UNET)
    plans = plans_of(tmp_path, forward, [40, 56, 48]) if forward else None
    written = export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pth", Format.NNUNET, plans=plans)
    network = plain_conv_unet(written.files[1], classes=3)
    load_as_nnunet_does(network, tmp_path / "a.pth")
    x = torch.rand(1, 1, 32, 48, 16, generator=torch.Generator().manual_seed(0))
    turn = order(forward or [0, 1, 2])
    ours, theirs = unet_levels(encoder, x), network.encoder(x.permute(turn))
    for level, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        found = their.permute([turn.index(axis) for axis in range(5)])
        torch.testing.assert_close(found, our, atol=2e-4, rtol=1e-4, msg=lambda said, at=level: f"level {at}: {said}")
    again = read_weights(tmp_path / "a.pth")
    own = encoder.state_dict()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in own.items())


@torch.no_grad()
def test_the_kernels_can_be_kept(tmp_path: Path) -> None:
    encoder = run_of(tmp_path / "run", UNET)
    export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pth", Format.NNUNET, axes="xyz")
    kept = torch.load(tmp_path / "a.pth")["network_weights"]["encoder.stages.1.0.convs.0.conv.weight"]
    assert torch.equal(kept, encoder.state_dict()["downsamples.0.conv1.conv.weight"])
    again = read_weights(tmp_path / "a.pth").tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_file_for_nnunet_holds_each_tensor_once(tmp_path: Path) -> None:
    run_of(tmp_path / "run", UNET)
    written = export_weights(read_weights(tmp_path / "run"), tmp_path / "a.pth", Format.NNUNET)
    content = torch.load(tmp_path / "a.pth")["network_weights"]
    # Each of 10 layers of the encoder and 8 of the decoder has kernel, bias, and two of its norm; and 4 ways up.
    assert len({tensor.data_ptr() for tensor in content.values()}) == written.tensors == 18 * 4 + 4 * 2
    # nnU-Net wants two names for each layer, and the encoder's once more under the decoder.
    assert len(content) == 10 * 8 * 2 + 8 * 8 + 4 * 2
    assert (tmp_path / "a.pth").stat().st_size < 4 * written.parameters + 60_000


def test_plans_for_the_network_of_the_weights(tmp_path: Path) -> None:
    run_of(tmp_path / "run", UNET)
    plans = plans_of(tmp_path, [0, 1, 2], [28, 200, 41])
    before = plans.read_bytes()
    weights = read_weights(tmp_path / "run")
    written = export_weights(weights, tmp_path / "my enc__1.pth", Format.NNUNET, plans=plans)
    assert written.files == (tmp_path / "my enc__1.pth", plans.with_name("voco_my_enc_1.json"))
    made = json.loads(written.files[1].read_text())
    assert (made["plans_name"], made["dataset_name"]) == ("voco_my_enc_1", "Dataset007_Organ")
    # No 2d, and no cascade: its network has more input channels.
    assert list(made["configurations"]) == ["3d_lowres", "3d_fullres", "3d_large"]
    for one in made["configurations"].values():
        assert one["patch_size"] == [32, 208, 48]  # halved four times; the nearest
        assert one["architecture"]["arch_kwargs"]["features_per_stage"] == FILTERS
        assert not {"next_stage", "inherits_from"} & set(one)
    assert made["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert made["configurations"]["3d_large"]["batch_size"] == 5
    assert written.train == (
        *("nnUNetv2_train", "Dataset007_Organ", "3d_fullres", "0", "-p", "voco_my_enc_1"),
        *("-pretrained_weights", str(tmp_path / "my enc__1.pth")),
    )
    assert plans.read_bytes() == before
    # The same again changes nothing; other weights under that name would change plans that a training may need.
    export_weights(weights, tmp_path / "my enc__1.pth", Format.NNUNET, plans=plans)
    run_of(tmp_path / "other", Model(backbone="unet", feature_size=2))
    with pytest.raises(UsageError, match=r"voco_my_enc_1\.json holds other plans already"):
        export_weights(read_weights(tmp_path / "other"), tmp_path / "my enc__1.pth", Format.NNUNET, plans=plans)
    assert json.loads(written.files[1].read_text()) == made


@pytest.mark.parametrize(
    ("patch_vox", "step", "wanted"),
    [
        ([40, 56, 48], 16, [48, 64, 48]),
        ([7, 7, 128], 16, [16, 16, 128]),
        ([10, 12, 20], 16, [32, 32, 32]),  # one voxel at the last level would leave a norm nothing to do
        ([28, 28, 28], 4, [28, 28, 28]),
    ],
)
def test_patches_that_halve_at_every_level(patch_vox: list[int], step: int, wanted: list[int]) -> None:
    assert halving_patch(patch_vox, [step] * 3) == wanted


def test_plans_that_do_not_go_with_the_weights(tmp_path: Path) -> None:
    run_of(tmp_path / "run", UNET)
    weights = read_weights(tmp_path / "run")

    def export(plans: Path) -> None:
        export_weights(weights, tmp_path / "a.pth", Format.NNUNET, plans=plans)

    plans = plans_of(tmp_path, [0, 1, 2], [32, 32, 32], channels=2)
    with pytest.raises(UsageError, match="Dataset007_Organ has 2 channels, the weights are for 1"):
        export(plans)
    elsewhere = tmp_path / "nnUNetPlans.json"
    elsewhere.write_bytes(plans.read_bytes())
    with pytest.raises(UsageError, match="does not lie in a folder of that name"):
        export(elsewhere)
    with pytest.raises(DataError, match="There are no plans of nnU-Net at"):
        export(tmp_path / "none.json")
    elsewhere.write_text("[]")
    with pytest.raises(DataError, match="there are no configurations in it"):
        export(elsewhere)
    held = json.loads(plans.read_text())
    held["configurations"] = {"3d_fullres": {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]}}
    plans.write_text(json.dumps({**held, "foreground_intensity_properties_per_channel": {"0": {}}}))
    with pytest.raises(DataError, match="inherits from 3d_fullres"):
        export(plans)
    held["configurations"] = {"2d": {"patch_size": [32, 32]}}
    plans.write_text(json.dumps({**held, "foreground_intensity_properties_per_channel": {"0": {}}}))
    with pytest.raises(UsageError, match="have no 3-D configuration"):
        export(plans)
    assert not (tmp_path / "a.pth").exists()


def test_a_checkpoint_of_nnunet_says_how_its_arrays_were_turned() -> None:
    kernel = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    held = {
        "network_weights": {"encoder.stages.0.0.convs.0.conv.weight": kernel},
        "init_args": {"plans": {"transpose_forward": [2, 0, 1]}, "configuration": "3d_fullres"},
    }
    weights = parse_weights(held, {}, "checkpoint_final.pth")
    # Readers give z, y, x; taking 2, 0, 1 of these makes x, z, y.
    assert weights.tensors["input_block.conv1.conv.weight"][0, 0, 0, 1, 2] == kernel[0, 0, 0, 2, 1]
    assert "axes as x, z, y" in " ".join(weights.notes)


@torch.no_grad()
def test_nnunet_computes_the_same_as_a_whole_dynunet(tmp_path: Path) -> None:
    torch.manual_seed(2)
    source = dyn_unet().eval()
    write_model(tmp_path, source, {"model": UNET.model_dump(mode="json")})
    written = export_weights(read_weights(tmp_path), tmp_path / "a.pth", Format.NNUNET)
    network = plain_conv_unet(written.files[1], classes=3)
    load_as_nnunet_does(network, tmp_path / "a.pth")
    output = network.decoder.seg_layers[-1]
    output.load_state_dict(source.output_block.conv.conv.state_dict())
    x = torch.rand(1, 1, 32, 48, 16, generator=torch.Generator().manual_seed(0))
    found = network(x.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(found, source(x), atol=1e-4, rtol=1e-4)


def test_a_fresh_decoder_is_the_same_each_time_and_leaves_the_random_state(tmp_path: Path) -> None:
    run_of(tmp_path / "run", UNET)
    weights = read_weights(tmp_path / "run")
    torch.manual_seed(4)
    written = [export_weights(weights, tmp_path / name, Format.NNUNET) for name in ("a", "b")]
    drawn = torch.rand(1)
    torch.manual_seed(4)
    assert torch.equal(drawn, torch.rand(1))
    first, second = (torch.load(export.files[0])["network_weights"] for export in written)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # He's draw for a slope of 0.01: standard deviation sqrt(2 / (1 + 1e-4) / (32 * 2 * 27)) at the deepest stage
    assert first["decoder.stages.0.convs.0.conv.weight"].std().item() == pytest.approx((2 / 1728) ** 0.5, rel=0.02)


def test_formats_that_have_no_place_for_a_network(tmp_path: Path) -> None:
    run_of(tmp_path / "swin", SWIN)
    run_of(tmp_path / "unet", UNET)
    with pytest.raises(UsageError, match="SwinUNETR v2 of feature_size 12; nnU-Net's PlainConvUNet takes"):
        export_weights(read_weights(tmp_path / "swin"), tmp_path / "a", Format.NNUNET)
    with pytest.raises(UsageError, match="DynUNet with filters 4-8-16-32-64; the authors' files hold SwinUNETR v2"):
        export_weights(read_weights(tmp_path / "unet"), tmp_path / "a", Format.AUTHORS)
    assert not (tmp_path / "a").exists()


def test_our_unet_encoder_reads_a_safetensors_export(tmp_path: Path) -> None:
    encoder = run_of(tmp_path / "run", UNET)
    export_weights(read_weights(tmp_path / "run"), tmp_path / "one.safetensors", Format.SAFETENSORS)
    network = UNetEncoder(1, 4)
    report = load_into(network, read_weights(tmp_path / "one.safetensors"))
    assert report.kind == "voco-encoder"
    with torch.no_grad():
        assert torch.equal(network(crop()), encoder(crop()))
