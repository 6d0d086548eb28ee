"""Heads, teachers and decoders: out of files, into files and into objectives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.numerics.test_forward_reference import reference_name
from voco_cli.config.objective_schema import VocoOptions
from voco_cli.config.schema import Model
from voco_cli.errors import DataError, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import Format, LoadReport, Weights, export_weights, load_into, own_tensors, read_weights
from voco_cli.models.weights.load import InputChannels
from voco_cli.models.weights.load_objectives import load_objectives
from voco_cli.models.weights.read import Branch
from voco_cli.objectives.voco.model import Projector, VolumeContrast

Tensors = dict[str, Tensor]
SWIN = Model(feature_size=12)
UNET = Model(backbone="unet", feature_size=2)
CVPR, TPAMI = VocoOptions(), VocoOptions(teacher="projector")


def contrast(
    model: Model = UNET, options: VocoOptions = CVPR, hidden: Sequence[int] = (8, 6), seed: int = 0, channels: int = 1
) -> VolumeContrast:
    torch.manual_seed(seed)
    return VolumeContrast(lambda: build_encoder(model, channels), lambda width: Projector(width, hidden, 4), options)


def tensors_of(network: nn.Module) -> Tensors:
    return {name: tensor.detach().clone().contiguous() for name, tensor in own_tensors(network).items()}


def beside(network: nn.Module, name: str = "voco") -> Tensors:
    """Return what a network has beside its encoder, with an objective before the names."""
    own = tensors_of(network).items()
    return {f"{name}.{key}": tensor for key, tensor in own if not key.startswith("encoder.")}


def run_of(folder: Path, tensors: Tensors, model: Model = UNET, objectives: Sequence[str] = ("voco",)) -> Path:
    """A run folder with a checkpoint, an encoder, and a path that nobody else is to read."""
    checkpoint = folder / "checkpoints" / "step-000007"
    checkpoint.mkdir(parents=True)
    save_file(tensors, checkpoint / "model.safetensors")
    (checkpoint / "checkpoint.json").write_text(json.dumps({"step": 7}))
    weights = {name: {"weight": 1.0 if name in objectives else 0.0} for name in ("voco", "mae")}
    settings = {"model": model.model_dump(mode="json"), "objective": weights, "data": {"file": "/secret/ward.json"}}
    (folder / "settings.yaml").write_text(json.dumps({"settings": settings}))
    return folder


def last(run: Path) -> Path:
    return run / "checkpoints" / "step-000007" / "model.safetensors"


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_one_objective_and_a_sum_give_the_same_names(tmp_path: Path) -> None:
    network, mae = contrast(), nn.ModuleDict({"reconstruct": nn.Linear(3, 2)})
    alone = read_weights(last(run_of(tmp_path / "alone", tensors_of(network))))
    parts = {f"parts.voco.{name}": tensor for name, tensor in tensors_of(network).items()}
    parts |= {f"parts.mae.{name}": tensor for name, tensor in tensors_of(mae).items()}
    summed = read_weights(last(run_of(tmp_path / "sum", parts, objectives=("voco", "mae"))))
    assert_equal(alone.objectives, beside(network))
    assert_equal(summed.objectives, {**beside(network), **beside(mae, "mae")})
    for weights in (alone, summed):
        assert_equal(weights.tensors, tensors_of(network.encoder))
        assert (weights.branch, weights.step) == ("student", 7)


def test_an_export_with_heads_holds_all_tensors_and_no_path(tmp_path: Path) -> None:
    network, file = contrast(), tmp_path / "go.safetensors"
    run = run_of(tmp_path / "run", tensors_of(network))
    written = export_weights(read_weights(last(run)), file, Format.SAFETENSORS, heads=True)
    assert written.notes == ("Beside the encoder: voco.projector, voco.teacher_encoder, voco.teacher_projector.",)
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["voco"])
        names = set(opened.keys())
    assert (header["format"], header["step"], header["objectives"]) == ("voco-pretraining/1", 7, {"voco": 1.0})
    assert "secret" not in json.dumps(header)
    assert names == {*tensors_of(network.encoder), *(f"objective.{name}" for name in beside(network))}
    branches: dict[Branch, tuple[nn.Module | None, nn.Module | None]] = {
        "student": (network.encoder, network.projector),
        "teacher": (network.teacher_encoder, network.teacher_projector),
    }
    for branch, (encoder, projector) in branches.items():
        assert encoder is not None
        assert projector is not None
        weights = read_weights(file, branch=branch)
        assert (weights.kind, weights.branch, weights.is_pretrained) == ("voco-pretraining", branch, True)
        assert_equal(weights.tensors, tensors_of(encoder))
        heads = {f"voco.projector.{name}": tensor for name, tensor in tensors_of(projector).items()}
        assert_equal(weights.objectives, {**beside(network), **heads})
        assert load_into(build_encoder(UNET), weights).encoder_share == 1.0


@pytest.mark.parametrize(("layout", "options", "count"), [("cvpr", CVPR, 302), ("tpami", TPAMI, 157)])
def test_the_authors_layout_has_their_names_and_is_read_again(
    layout: str, options: VocoOptions, count: int, tmp_path: Path
) -> None:
    network, file = contrast(SWIN, options), tmp_path / "go.pt"
    run = run_of(tmp_path / "run", tensors_of(network), SWIN)
    export_weights(read_weights(last(run)), file, Format.AUTHORS, heads=True)
    content = torch.load(file, weights_only=True)
    assert content["global_step"] == 7
    assert len(content["state_dict"]) == count
    assert_equal(content["state_dict"], {reference_name(layout, n): t for n, t in tensors_of(network).items()})
    weights = read_weights(file)
    assert (weights.kind, weights.patch_merging) == (f"{layout}-pretraining", "current")
    assert_equal(weights.tensors, tensors_of(network.encoder))
    assert_equal(weights.objectives, beside(network))


def test_what_the_authors_layout_has_no_place_for_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", tensors_of(contrast(SWIN, hidden=(8,))), SWIN)
    with pytest.raises(UsageError, match="has no student and teacher with projectors of three layers"):
        export_weights(read_weights(last(run)), tmp_path / "a.pt", Format.AUTHORS, heads=True)
    lone = tmp_path / "lone.safetensors"
    save_file(tensors_of(contrast().encoder), lone)
    with pytest.raises(UsageError, match=r"lone.safetensors holds no heads of a pre-training"):
        export_weights(read_weights(lone), tmp_path / "b.safetensors", Format.SAFETENSORS, heads=True)
    assert not list(tmp_path.glob("[ab].*"))


def start(network: VolumeContrast, weights: Weights, **parts: nn.Module) -> LoadReport:
    report = load_into(network.encoder, weights)
    return load_objectives({"voco": network, **parts}, weights, report, "reinit")


def test_every_part_that_both_have_is_filled_and_the_rest_is_said(tmp_path: Path) -> None:
    source, network, head = contrast(), contrast(seed=1), nn.ModuleDict({"head": nn.Linear(3, 2)})
    fresh = tensors_of(head)
    tensors = {**tensors_of(source), "extra.weight": torch.ones(2)}
    report = start(network, read_weights(last(run_of(tmp_path / "run", tensors))), rotation=head)
    assert_equal(tensors_of(network), tensors_of(source))
    assert_equal(tensors_of(head), fresh)
    said = "voco.projector, voco.teacher_encoder, voco.teacher_projector from the weights; rotation.head fresh"
    assert report.notes[-1] == f"Beside the encoder: {said}."
    assert str(report).endswith(f"; beside it {said}")
    assert report.missing == ("objective.rotation.head.weight", "objective.rotation.head.bias")
    assert report.unexpected == ("objective.voco.extra.weight",)
    assert set(report.loaded) == {*tensors_of(source.encoder), *(f"objective.{name}" for name in beside(source))}


def test_heads_of_other_widths_are_left_fresh_as_a_whole(tmp_path: Path) -> None:
    """Also the tensors of a part that would fit alone, such as its last bias."""
    network = contrast(hidden=(9, 6), seed=1)
    fresh = beside(network)
    source = contrast()
    report = start(network, read_weights(last(run_of(tmp_path / "run", tensors_of(source)))))
    heads = {name: tensor for name, tensor in fresh.items() if "projector" in name}
    assert_equal({name: tensor for name, tensor in beside(network).items() if "projector" in name}, heads)
    assert network.teacher_encoder is not None
    assert source.teacher_encoder is not None
    assert_equal(tensors_of(network.teacher_encoder), tensors_of(source.teacher_encoder))
    assert report.objectives == "voco.teacher_encoder from the weights; voco.projector, voco.teacher_projector fresh"
    assert set(report.mismatched) == {f"objective.{name}" for name in heads}


def test_a_teachers_head_that_the_weights_lack_starts_as_the_students(tmp_path: Path) -> None:
    source = contrast(options=VocoOptions(teacher="none"))
    network = contrast(options=VocoOptions(teacher="projector", teacher_start="own"), seed=1)
    start(network, read_weights(last(run_of(tmp_path / "run", tensors_of(source)))))
    assert network.teacher_projector is not None
    assert_equal(tensors_of(network.teacher_projector), tensors_of(source.projector))
    assert_equal(tensors_of(network.projector), tensors_of(source.projector))


@pytest.mark.parametrize("rule", ["repeat", "reinit"])
def test_other_channels_go_by_the_setting_in_the_teacher_too(rule: InputChannels, tmp_path: Path) -> None:
    source, network = contrast(), contrast(channels=2, seed=1)
    assert source.teacher_encoder is not None
    assert network.teacher_encoder is not None
    fresh = tensors_of(network.teacher_encoder)
    weights = read_weights(last(run_of(tmp_path / "run", tensors_of(source))))
    report = load_into(network.encoder, weights, input_channels=rule)
    report = load_objectives({"voco": network}, weights, report, rule)
    given = tensors_of(source.teacher_encoder)
    first = {name for name, tensor in fresh.items() if tensor.shape != given[name].shape}
    assert first == {"input_block.conv1.conv.weight"}
    for name, tensor in tensors_of(network.teacher_encoder).items():
        repeated = torch.cat([given[name]] * 2, dim=1) / 2 if name in first else given[name]
        assert torch.equal(tensor, fresh[name] if name in first and rule == "reinit" else repeated), name
    assert (report.repeated if rule == "repeat" else report.reinitialised) == (
        "input_block.conv1.conv.weight",
        "objective.voco.teacher_encoder.input_block.conv1.conv.weight",
    )


def test_a_head_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    network = contrast(seed=1)
    fresh, spoiled = beside(network), tensors_of(contrast())
    spoiled["teacher_projector.6.bias"][0] = torch.nan
    with pytest.raises(DataError, match=r"not finite in voco\.teacher_projector\.6\.bias"):
        start(network, read_weights(last(run_of(tmp_path / "run", spoiled))))
    assert_equal(beside(network), fresh)
