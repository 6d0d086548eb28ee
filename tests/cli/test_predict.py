"""`voco predict` as a command: every kind of input, what is printed, exit codes by the errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.command import voco
from tests.data.cache.made_scans import body_hu, oriented_affine, write_nifti
from tests.data.io.make_files import write_dicom
from tests.tasks.made_run import make_run
from voco_cli.cli.predict import predict
from voco_cli.config import load_settings
from voco_cli.config.load import saved_file
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.errors import DataError, UsageError
from voco_cli.training.run_dir import versions

app = typer.Typer()
app.command()(predict)
SHAPE = (20, 18, 14)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of a NIfTI and an NRRD file, a DICOM series, a label map and a damaged file."""
    folder = tmp_path / "scans"
    folder.mkdir()
    path = write_nifti(folder / "a.nii.gz", body_hu(SHAPE), oriented_affine("LPS", (2.0, 2.0, 3.0)))
    write_scan(read_scan(path).array_zyx, read_scan(path), folder / "b.nrrd")
    write_dicom(folder / "patient" / "chest", depths_mm=tuple(range(0, 40, 4)))
    write_nifti(folder / "a_seg.nii.gz", np.ones(SHAPE, dtype=np.uint8), np.eye(4))
    return folder


def test_a_folder_of_all_kinds(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = CliRunner().invoke(app, [str(run), str(scans), "-o", str(out), "--suffix", ".nrrd", "--overlap", "0"])
    assert shown.exit_code == 0, shown.output
    assert "3 predicted, 0 kept from before, 0 failed." in shown.stdout
    assert f"wrote {out / 'labels.json'}" in shown.stdout
    assert f"next: voco evaluate --predictions {out}" in shown.stdout
    assert "a_seg.nii.gz: label map." in shown.stderr
    assert {path.name for path in out.iterdir()} == {
        "a.nrrd",
        "b.nrrd",
        "chest.nrrd",
        "labels.json",
        "prediction.json",
    }
    for source, case in ((scans / "a.nii.gz", "a"), (scans / "b.nrrd", "b"), (scans / "patient" / "chest", "chest")):
        scan, found = read_scan(source), read_scan(out / f"{case}.nrrd")
        assert found.shape_xyz == scan.shape_xyz
        np.testing.assert_allclose(found.spacing_xyz_mm, scan.spacing_xyz_mm, rtol=1e-6)
        np.testing.assert_allclose(found.origin_xyz_mm, scan.origin_xyz_mm, atol=1e-4)
        np.testing.assert_allclose(found.direction, scan.direction, atol=1e-6)
    np.testing.assert_array_equal(read_scan(out / "a.nrrd").array_zyx, read_scan(out / "b.nrrd").array_zyx)


def test_one_bad_scan_gives_exit_code_3_and_all_of_the_rest(run: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "c.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:900])
    arguments = [str(run), str(scans), "-o", str(tmp_path / "out"), "--json"]
    shown = CliRunner().invoke(app, arguments)
    assert isinstance(shown.exception, DataError)
    assert shown.exception.exit_code == 3
    assert shown.exception.message == "1 of 4 cases could not be predicted."
    assert "c.nii.gz" in shown.stderr
    told = json.loads(shown.stdout)
    assert told["predicted"] == ["a", "b", "chest"]
    assert len(told["failed"]) == 1
    assert [Path(one["path"]).name for one in told["passed_over"]] == ["a_seg.nii.gz"]
    again = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (again["predicted"], again["kept"]) == ([], ["a", "b", "chest"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "1"], "predict.overlap"),
        (["--set", "model.feature_size=4"], "would change the network"),
        (["--set", "predict.widow_batch=2"], "the nearest is predict.window_batch"),
        (["--device", "tpu"], "run.device"),
        (["--device", "cuda:7"], "there is no CUDA device"),
    ],
)
def test_wrong_settings(run: Path, scans: Path, tmp_path: Path, options: list[str], message: str) -> None:
    shown = CliRunner().invoke(app, [str(run), str(scans), "-o", str(tmp_path / "out"), *options])
    assert isinstance(shown.exception, UsageError)
    assert message in shown.exception.message
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_predict(run: Path, scans: Path, tmp_path: Path) -> None:
    def error_of(folder: Path) -> str:
        shown = CliRunner().invoke(app, [str(folder), str(scans), "-o", str(tmp_path / "out")])
        assert isinstance(shown.exception, UsageError | DataError)
        return shown.exception.message

    assert error_of(scans) == f"{scans} is not a run folder: it has no settings.yaml."
    weights = run / "weights" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert error_of(run).startswith(f"{weights} is damaged")
    other = make_run(tmp_path / "other", "model.feature_size=4")
    weights.write_bytes((other / "weights" / "model.safetensors").read_bytes())
    assert error_of(run).startswith(f"{weights} is of another network than settings.yaml beside it says")
    weights.unlink()
    assert error_of(run) == f"{run} has no trained network yet."
    (run / "settings.yaml").write_text(saved_file(load_settings("debug"), versions()))
    assert error_of(run).startswith(f"{run} is a pre-training run")


def test_a_classification_writes_probabilities(scans: Path, tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", "task.kind=classification", "preprocess.spacing_mm=null", "preprocess.resize_vox=[16, 16, 16]"
    )
    shown = CliRunner().invoke(app, [str(run), str(scans), "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    lines = (tmp_path / "out" / "probabilities.csv").read_text().splitlines()
    assert lines[0] == "case,predicted,p_spleen,p_liver"
    assert [line.split(",")[0] for line in lines[1:]] == ["a", "b", "chest"]
    assert all(sum(map(float, line.split(",")[2:])) == pytest.approx(1) for line in lines[1:])
    assert "3 predicted, 0 kept from before, 0 failed." in shown.stdout
    again = CliRunner().invoke(app, [str(run), str(scans), "-o", str(tmp_path / "out")])
    assert "0 predicted, 3 kept from before, 0 failed." in again.stdout


def test_installed_command(run: Path, scans: Path, tmp_path: Path) -> None:
    """Through the front door, where an error is a sentence and a code."""
    told = voco("predict", run, scans / "gone", "-o", tmp_path / "out", cwd=tmp_path)
    assert told.returncode == 3
    assert told.stderr.splitlines()[0] == f"error: {scans / 'gone'} does not exist."


def test_flips_that_the_network_never_saw_are_refused_and_can_be_insisted_on(tmp_path: Path, scans: Path) -> None:
    run = make_run(tmp_path / "still", "augment.flip_prob=0")
    arguments = [str(run), str(scans / "b.nrrd"), "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, [*arguments, "--flips"])
    assert isinstance(refused.exception, UsageError)
    assert "was trained without flips (augment.flip_prob is 0)" in refused.exception.message
    assert refused.exception.hint == "leave `--flips` out, or insist with `--set predict.flips=true` in its place"
    assert not (tmp_path / "out").exists()
    insisted = CliRunner().invoke(app, [*arguments, "--set", "predict.flips=true"])
    assert insisted.exit_code == 0, insisted.output
    assert "warning: predict.flips averages over flips that the network does not see in training" in insisted.stderr
    moving = make_run(tmp_path / "moving", "augment.flip_prob=0.5")
    trained = CliRunner().invoke(app, [str(moving), str(scans / "b.nrrd"), "-o", str(tmp_path / "more"), "--flips"])
    assert trained.exit_code == 0, trained.output
    assert "warning" not in trained.stderr
