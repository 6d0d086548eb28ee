"""Pre-training that goes on from another's weights: with heads and teacher, on other scans, stage by stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from tests.pretrain.tiny_run import TINY, At, killed_run, tiny_run, write_data
from tests.training.made_job import numbers, weights
from voco_cli.cli.weights import app
from voco_cli.config import load_settings
from voco_cli.data.index.trained_on import TrainingManifest, read_manifest
from voco_cli.errors import DataError, UsageError
from voco_cli.models.weights import LoadReport, own_tensors, write_encoder
from voco_cli.objectives.objective import Objective
from voco_cli.pretrain.task import PretrainingTask, build_model
from voco_cli.training.callbacks import Callback

Tensors = dict[str, Tensor]
SHORT = ("train.steps=4", "train.validate_every=4", "train.lr=0.01")
MAE = ("objective.mae.weight=1", "objective.mae.cube_vox=8")


@dataclass(frozen=True)
class Done:
    """A run of volume contrast, its scans, and the tensors of its last checkpoint."""

    data: Path
    run: Path
    tensors: Tensors


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("going_on")
    data, run = write_data(folder / "data", 3, 2), folder / "run"
    tiny_run(data, run, *SHORT)
    return Done(data, run, checkpoint(run))


def checkpoint(run: Path, step: int = 4) -> Tensors:
    return dict(load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors"))


def fresh(*override: str) -> Objective:
    """Return what a run begins with before any weights are read."""
    settings = load_settings("debug", None, (*TINY, *override), {}).settings
    return build_model(settings, torch.device("cpu"))


def started(source: Path | None, *override: str) -> tuple[Tensors, LoadReport | None]:
    """Tensors of a run that is about to begin from some weights."""
    flags = {"model.weights": str(source)} if source else {}
    settings = load_settings("debug", None, (*TINY, *override), flags).settings
    task = PretrainingTask(settings, build_model(settings, torch.device("cpu")), [], [], TrainingManifest)
    report = task.load_start()
    return {name: tensor.detach() for name, tensor in own_tensors(task.objective).items()}, report


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def export(run: Path, file: Path, *words: str) -> Path:
    shown = CliRunner().invoke(app, ["export", str(run), "-o", str(file), "--heads", *words])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[-1] == f"next: voco pretrain DATA.json --weights {file}"
    return file


def test_a_run_and_its_export_start_another_where_it_ended(done: Done, tmp_path: Path) -> None:
    file = export(done.run, tmp_path / "go.safetensors")
    assert read_manifest(tmp_path / "go.seen.json") == read_manifest(done.run / "weights" / "seen.json")
    for source in (done.run, file):
        tensors, report = started(source)
        assert_equal(tensors, done.tensors)
        assert report is not None
        assert report.objectives == "voco.projector, voco.teacher_encoder, voco.teacher_projector from the weights"
        assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())


def test_the_teacher_can_be_what_both_start_from(done: Done, tmp_path: Path) -> None:
    file = export(done.run, tmp_path / "go.safetensors", "--branch", "teacher")
    for tensors in (started(file)[0], started(done.run, "model.weights_branch=teacher")[0]):
        taught = {name: done.tensors[f"teacher_{name}"] for name in done.tensors if not name.startswith("teacher_")}
        assert_equal(tensors, {**done.tensors, **taught})


def test_an_objective_that_is_new_in_a_sum_begins_fresh(done: Done) -> None:
    tensors, report = started(done.run, *MAE)
    expected = {f"parts.voco.{name}": tensor for name, tensor in done.tensors.items()}
    own = own_tensors(fresh(*MAE)).items()
    assert_equal(tensors, {**{name: t.detach() for name, t in own if name.startswith("parts.mae.")}, **expected})
    assert report is not None
    assert report.objectives.endswith("from the weights; mae.reconstruct, mae.tokens fresh")


def test_the_encoder_alone_starts_the_teacher_too_and_no_head(done: Done, tmp_path: Path) -> None:
    """As a file holds no more, or as the settings ask."""
    start = {name: tensor.detach() for name, tensor in own_tensors(fresh()).items()}
    encoder = {name: tensor for name, tensor in done.tensors.items() if name.startswith("encoder.")}
    expected = {**start, **encoder, **{f"teacher_{name}": tensor for name, tensor in encoder.items()}}
    lone, report = started(done.run / "weights" / "encoder.safetensors")
    assert_equal(lone, expected)
    assert report is not None
    said = "voco.teacher_encoder as a copy of the encoder; voco.projector, voco.teacher_projector fresh"
    assert report.objectives == said
    assert_equal(started(done.run, "model.transfer=encoder")[0], expected)
    without = shutil.copytree(done.run, tmp_path / "without", ignore=shutil.ignore_patterns("checkpoints"))
    again, report = started(without)
    assert_equal(again, expected)
    assert report is not None
    assert report.objectives == said


def test_a_decoder_is_handed_on(done: Done, tmp_path: Path) -> None:
    decoder = ("objective.mae.decoder=segmentation", "objective.mae.token=learned", "crops.size=32x32x32")
    only = (*MAE, *decoder, "objective.voco.weight=0", "preprocess.resize_vox=64x64x32")
    tiny_run(done.data, tmp_path / "mae", *SHORT, *only)
    tensors, report = started(tmp_path / "mae", *only)
    assert_equal(tensors, checkpoint(tmp_path / "mae"))
    assert report is not None
    assert report.objectives == "mae.reconstruct, mae.tokens from the weights"


def test_other_modality_goes_on_and_the_list_of_scans_follows(done: Done, tmp_path: Path) -> None:
    data = write_data(tmp_path / "mr", 2, 1)
    data.write_text(json.dumps({**json.loads(data.read_text()), "modality": "MR", "name": "ward MR"}))
    said: list[LoadReport | None] = []

    class Listening(Callback):
        def prepared(self, prepared: object) -> None:
            said.append(getattr(prepared, "loaded"))  # noqa: B009 (what is prepared is of no type here)

    once = ("train.steps=1", "train.warmup_share=0")
    tiny_run(data, tmp_path / "run", *once, f"model.weights={done.run}", callback=Listening())
    assert said[0] is not None
    assert "; beside it voco.projector, voco.teacher_encoder, voco.teacher_projector from the wei" in str(said[0])
    preprocess = json.loads((tmp_path / "run" / "weights" / "encoder.json").read_text())["preprocess"]
    assert preprocess["intensity"] == "percentiles"
    before, after = (read_manifest(run / "weights" / "seen.json") for run in (done.run, tmp_path / "run"))
    assert after.stages[:1] == before.stages
    assert [len(stage) for stage in after.stages] == [3, 2]
    assert after.unknown == ()


STAGES = "stages=[{train: {steps: 2}}, {objective: {rotation: {weight: 1}}, train: {steps: 4}}]"


def test_stages_hand_on_heads_and_a_killed_one_resumes_to_the_same(done: Done, tmp_path: Path) -> None:
    often = ("train.checkpoint_every=2", "train.validate_every=4")
    tiny_run(done.data, tmp_path / "whole", STAGES, *often)
    first = tmp_path / "whole" / "stages" / "1-voco"
    notes = json.loads((tmp_path / "whole" / "weights_report.json").read_text())["notes"]
    parts = "voco.projector, voco.teacher_encoder, voco.teacher_projector from the weights; rotation.head fresh"
    assert f"Beside the encoder: {parts}." in notes
    looked = numbers(tmp_path / "whole")[0]["voco/base_cosine"]  # of encoder and projector, without the teacher
    assert looked == numbers(first)[-1]["base_cosine"]
    killed_run(done.data, tmp_path / "killed", At(advanced=3), STAGES, *often)
    tiny_run(done.data, tmp_path / "killed", STAGES, *often)
    assert weights(tmp_path / "killed", 4) == weights(tmp_path / "whole", 4)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


def test_a_run_without_a_checkpoint_has_no_heads_to_export(tmp_path: Path) -> None:
    settings = load_settings("debug", None, TINY, {}).settings
    about = {"model": settings.model.model_dump(mode="json")}
    write_encoder(tmp_path / "run" / "weights", fresh().encoder, about)
    words = ["export", str(tmp_path / "run"), "-o", str(tmp_path / "go.safetensors"), "--heads"]
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, DataError)
    assert refused.message == f"{tmp_path / 'run'} has no checkpoint, and heads and teacher are nowhere else."
    other = CliRunner().invoke(app, [*words, "--format", "monai"]).exception
    assert isinstance(other, UsageError)
    assert other.message == "--heads is for those who go on pre-training, and monai is for other networks."
    assert not (tmp_path / "go.safetensors").exists()


def test_an_export_says_what_it_holds(done: Done, tmp_path: Path) -> None:
    file = export(done.run, tmp_path / "go.safetensors")
    shown = json.loads(CliRunner().invoke(app, ["inspect", str(file), "--json"]).stdout)
    assert (shown["kind"], shown["step"], shown["branch"]) == ("voco-pretraining", 4, "student")
    assert shown["to_go_on"] == "voco.projector, voco.teacher_encoder, voco.teacher_projector"
    assert shown["report"]["encoder_share"] == 1.0
