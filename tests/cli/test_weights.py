"""`voco weights` as a command: tables, JSON, exit codes, files."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from voco_cli.cli.weights import app
from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import write_encoder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = Model(backbone="unet", feature_size=2)
    write_encoder(
        tmp_path / "run" / "weights", build_encoder(model), {"step": 7, "model": model.model_dump(mode="json")}
    )
    return tmp_path / "run"


@pytest.fixture
def authors(tmp_path: Path) -> Path:
    torch.save(build_encoder(Model(feature_size=12)).state_dict(), tmp_path / "head.pt")
    return tmp_path / "head.pt"


def test_inspect_as_tables(authors: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(authors)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    lines = {line.split("  ")[0]: " ".join(line.split()) for line in shown.stdout.splitlines() if line.strip()}
    assert lines["network"] == "network SwinUNETR v2 of feature_size 12"
    assert lines["tensors"] == "tensors 145"
    assert lines["parameters"] == "parameters 3,514,134"
    assert lines["patch merging"] == "patch merging legacy"
    assert lines["transformer"] == "transformer 134 - - - 1,355,958 (100.0%)"
    assert lines["decoder"].startswith("decoder - 22 - - 0")
    assert "legacy slices are used" in shown.stdout
    assert shown.stdout.splitlines()[-1] == f"next: voco weights export {authors} -o encoder.pt --format monai"


def test_inspect_as_json(run: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(run), "--json"])
    said = json.loads(shown.stdout)
    assert (said["kind"], said["step"], said["tensors"]) == ("voco-encoder", 7, 30)
    assert said["settings"]["model"]["feature_size"] == 2
    assert said["report"]["encoder_share"] == 1.0
    assert said["fits"].startswith("monai.networks.nets.DynUNet(")


def test_the_verdict_travels_with_the_weights(tmp_path: Path) -> None:
    model = Model(backbone="unet", feature_size=2)
    verdict = {"status": "learned", "sentence": "Learned to locate: as [x] says."}
    about = {"step": 7, "model": model.model_dump(mode="json"), "verdict": verdict}
    write_encoder(tmp_path / "run" / "weights", build_encoder(model), about)
    target = tmp_path / "encoder.safetensors"
    exported = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "-o", str(target)])
    assert exported.exit_code == 0, exported.output
    for source in (tmp_path / "run", target):
        shown = CliRunner().invoke(app, ["inspect", str(source)], env={"COLUMNS": "200"})
        assert "Learned to locate: as [x] says." in shown.stdout
        assert (
            json.loads(CliRunner().invoke(app, ["inspect", str(source), "--json"]).stdout)["verdict"]
            == verdict["sentence"]
        )


def test_inspect_what_no_network_here_has(tmp_path: Path) -> None:
    torch.save({"blocks.0.weight": torch.zeros(3, 2)}, tmp_path / "other.pt")
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "other.pt")])
    assert shown.exit_code == 0, shown.output
    assert "blocks.0.weight [3, 2]" in shown.stdout


@pytest.mark.parametrize("file_format", ["safetensors", "monai", "nnunet"])
def test_export_and_inspect_again(run: Path, tmp_path: Path, file_format: str) -> None:
    target = tmp_path / ("out.safetensors" if file_format == "safetensors" else "out.pt")
    shown = CliRunner().invoke(app, ["export", str(run), "-o", str(target), "--format", file_format])
    assert shown.exit_code == 0, shown.output
    assert f"wrote {target}" in shown.stdout
    assert "next: " in shown.stdout.splitlines()[-1]
    again = CliRunner().invoke(app, ["inspect", str(target), "--json"])
    assert json.loads(again.stdout)["report"]["parts"]["encoder blocks"]["loaded"]["tensors"] == 30
    assert not list(tmp_path.glob(".unfinished-*"))


def test_export_replaces_only_when_told(authors: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.pt"
    target.write_text("mine")
    arguments = ["export", str(authors), "-o", str(target), "--format", "authors"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UsageError)
    assert target.read_text() == "mine"
    told = CliRunner().invoke(app, [*arguments, "--force", "--json"])
    assert json.loads(told.stdout) == {"files": [str(target)], "tensors": 145, "parameters": 3_514_134, "notes": []}


def test_export_for_nnunet_prints_a_command_with_plans_that_are_there(run: Path, tmp_path: Path) -> None:
    plans = tmp_path / "pre" / "Dataset003_X" / "nnUNetPlans.json"
    plans.parent.mkdir(parents=True)
    full = {"patch_size": [32, 32, 32], "data_identifier": "nnUNetPlans_3d_fullres"}
    held = {"dataset_name": "Dataset003_X", "transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": full}}
    plans.write_text(json.dumps(held))
    target = tmp_path / "enc.pth"
    arguments = ["export", str(run), "-o", str(target), "--format", "nnunet"]
    without = CliRunner().invoke(app, arguments)
    assert "--force --plans $nnUNet_preprocessed/DATASET/nnUNetPlans.json" in without.stdout
    assert without.stdout.splitlines()[-1] == f"next: voco weights inspect {target}"
    shown = CliRunner().invoke(app, [*arguments, "--force", "--plans", str(plans)])
    assert shown.exit_code == 0, shown.output
    train = f"nnUNetv2_train Dataset003_X 3d_fullres 0 -p voco_enc -pretrained_weights {target}"
    assert shown.stdout.splitlines()[-1] == f"next: {train}"
    assert f"wrote {plans.with_name('voco_enc.json')}" in shown.stdout
    assert "axes as z, y, x" in shown.stdout
    said = json.loads(CliRunner().invoke(app, [*arguments, "--force", "--plans", str(plans), "--json"]).stdout)
    assert said["train"] == train
    target.unlink()
    refused = CliRunner().invoke(app, ["export", str(run), "-o", str(target), "--plans", str(plans)])
    assert isinstance(refused.exception, UsageError)
    assert "--plans is for nnU-Net" in str(refused.exception)
