"""Decoders beside encoders: with the segmentation decoder they are the segmenter, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.models import swin
from voco_cli.models.build import build_decoder, build_encoder, build_segmenter, compile_encoder, decode_groups
from voco_cli.models.memory import kept_bytes, plan_grouping
from voco_cli.models.weights import own_tensors

SWIN = Model(backbone="swinunetr", feature_size=12)
UNET = Model(backbone="unet", feature_size=4, levels=4)
RESENC = Model(backbone="resenc", feature_size=4, levels=4)


def halves(model: Model) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Encoder, decoder, and the segmenter filled with the tensors of both."""
    torch.manual_seed(0)
    encoder = build_encoder(model)
    decoder = build_decoder(model, encoder, 3, "segmentation")
    segmenter = build_segmenter(model, 1, 3)
    given = {**own_tensors(encoder), **own_tensors(decoder)}
    own = own_tensors(segmenter)
    assert set(given) == set(own)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])
    return encoder, decoder, segmenter


def decoded(encoder: nn.Module, decoder: nn.Module, crops: Tensor) -> Tensor:
    return decode_groups(encoder, decoder, crops, None, recompute=False, training=True)


@pytest.mark.parametrize(
    ("model", "size"),
    [(UNET, (16, 24, 8)), (SWIN, (64, 32, 32)), (RESENC, (16, 24, 8))],
    ids=["unet", "swinunetr", "resenc"],
)
def test_encoder_and_segmentation_decoder_are_the_segmenter(model: Model, size: tuple[int, int, int]) -> None:
    encoder, decoder, segmenter = halves(model)
    crops = torch.rand(1, 1, *size)
    torch.testing.assert_close(decoded(encoder, decoder, crops), segmenter(crops), rtol=1e-5, atol=1e-5)


def test_the_modules_of_monai_decode_the_same_as_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder, _ = (network.double() for network in halves(SWIN))
    crops = torch.rand(1, 1, 64, 32, 32, dtype=torch.float64)
    fast = decoded(encoder, decoder, crops)
    monkeypatch.setattr(swin, "is_covered", lambda *images: False)
    torch.testing.assert_close(decoded(encoder, decoder, crops), fast)


@pytest.mark.parametrize("model", [UNET, SWIN, RESENC], ids=["unet", "swinunetr", "resenc"])
def test_maps_have_the_widths_that_the_encoder_says_and_halve(model: Model) -> None:
    encoder = build_encoder(model)
    levels = encoder.feature_maps(torch.rand(1, 1, 64, 32, 32))  # type: ignore[operator]
    assert tuple(level.shape[1] for level in levels) == encoder.map_widths
    assert [tuple(level.shape[2:]) for level in levels] == [(64 >> i, 32 >> i, 32 >> i) for i in range(len(levels))]


@pytest.mark.parametrize("kind", ["light", "segmentation"])
def test_groups_and_recomputing_change_no_value_and_no_gradient(kind: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(UNET).double()
    decoder = build_decoder(UNET, encoder, 2, kind).double()  # type: ignore[arg-type]
    crops = torch.rand(3, 1, 32, 16, 16, dtype=torch.float64)
    found = []
    for group_size, recompute in ((None, False), (1, False), (2, True)):
        encoder.zero_grad()
        decoder.zero_grad()
        values = decode_groups(encoder, decoder, crops, group_size, recompute=recompute, training=True)
        assert values.shape == (3, 2, 32, 16, 16)
        values.square().mean().backward()
        gradients = [p.grad for net in (encoder, decoder) for p in net.parameters() if p.grad is not None]
        found.append([values.detach(), *gradients])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)


def test_the_light_decoder_takes_edges_that_do_not_halve_evenly() -> None:
    encoder = build_encoder(UNET)
    decoder = build_decoder(UNET, encoder, 1, "light")
    assert decoded(encoder, decoder, torch.rand(2, 1, 18, 19, 20)).shape == (2, 1, 18, 19, 20)


def test_a_compiled_encoder_decodes_by_its_graph_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder(UNET)
    decoder = build_decoder(UNET, encoder, 1, "light")
    crops = torch.rand(1, 1, 16, 16, 16)
    calls: list[int] = []

    def compiled(run: Callable[[Tensor], list[Tensor]], **options: bool) -> Callable[[Tensor], list[Tensor]]:
        assert options == {"fullgraph": True, "dynamic": False}

        def counted(group: Tensor) -> list[Tensor]:
            calls.append(len(group))
            return run(group)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(encoder, "compile", lambda **options: None)
    compile_encoder(encoder)
    trained = decode_groups(encoder, decoder, crops, None, recompute=False, training=True)
    assert calls == [1]
    asked = decode_groups(encoder, decoder, crops, None, recompute=False, training=False)
    assert calls == [1]
    assert torch.equal(trained, asked)


@pytest.mark.parametrize("kind", ["light", "segmentation"])
def test_a_decoder_keeps_no_more_than_it_is_counted_as(kind: str) -> None:
    """Bytes of the tensors that wait for the backward pass, and at least half of what is counted."""
    model = UNET.model_copy(update={"feature_size": 16, "levels": 5})
    encoder = build_encoder(model)
    decoder = build_decoder(model, encoder, 1, kind)  # type: ignore[arg-type]
    own = {p.untyped_storage().data_ptr() for p in (*encoder.parameters(), *decoder.parameters())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    crops = torch.rand(1, 1, 32, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values = decoded(encoder, decoder, crops)
    counted = kept_bytes(model, torch.device("cpu"), half=False, decoder=kind) * 32**3  # type: ignore[arg-type]
    assert counted / 2 <= sum(kept.values()) <= counted
    assert values.requires_grad
    sizes = [
        plan_grouping(model, 64, (32,) * 3, torch.device("cpu"), half=False, decoder=one).size  # type: ignore[arg-type]
        for one in (None, kind)
    ]
    assert sizes == [13, {"light": 9, "segmentation": 6}[kind]]  # in 256 MB, at 576 bytes of a voxel; + 290, or twice


@pytest.mark.parametrize("model", [UNET, RESENC], ids=["unet", "resenc"])
def test_a_decoder_with_coarser_outputs_is_the_segmenter_that_has_them(model: Model) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(model)
    decoder = build_decoder(model, encoder, 3, "segmentation", deep_supervision=2)
    segmenter = build_segmenter(model, 1, 3, deep_supervision=2)
    given, own = {**own_tensors(encoder), **own_tensors(decoder)}, own_tensors(segmenter)
    assert set(given) == set(own)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])
    crops = torch.rand(1, 1, 16, 24, 8)
    for part in (encoder, decoder, segmenter):
        part.train()
    expected = segmenter(crops)
    assert expected.shape == (1, 3, 3, 16, 24, 8)
    torch.testing.assert_close(decoded(encoder, decoder, crops), expected, rtol=1e-5, atol=1e-5)
    decoder.eval()
    torch.testing.assert_close(decoded(encoder, decoder, crops), expected[:, 0], rtol=1e-5, atol=1e-5)
