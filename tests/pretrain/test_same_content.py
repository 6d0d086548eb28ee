"""A pre-training goes on where its data or weights have moved or are spelled otherwise; other content is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import write_nifti
from tests.pretrain.tiny_run import tiny_run, write_data
from voco_cli.config import read_saved
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import UsageError
from voco_cli.training.run_dir import RunFolder

FEW = ("train.steps=2", "train.checkpoint_every=1", "train.validate_every=2")


def go(data: Path | str, run: Path, *override: str) -> None:
    tiny_run(Path(data), run, *FEW, *override)


def test_data_by_other_paths_and_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = write_data(tmp_path / "data", 3, 1), tmp_path / "run"
    go(data, run)
    go(os.path.relpath(data), run)
    (tmp_path / "link").symlink_to(data.parent)
    go(tmp_path / "link" / "data.json", run)
    monkeypatch.chdir(data.parent)
    go("data.json", run)
    listed = json.loads(data.read_text())
    for split in ("training", "validation"):
        for item in listed[split]:
            item["image"] = str(data.parent / item["image"])
    data.write_text(json.dumps(listed))
    go("data.json", run)  # absolute paths in place of relative ones
    moved = shutil.move(data.parent, tmp_path / "elsewhere" / "scans")
    monkeypatch.chdir(tmp_path)
    listed["training"][0]["image"] = listed["training"][0]["image"].replace("/data/", "/elsewhere/scans/")
    text = data_text(listed, tmp_path)
    (Path(moved) / "data.json").write_text(text)
    go(Path(moved) / "data.json", run)
    folder = RunFolder(run)
    assert [entry.image.exists() for entry in read_datalist(folder.data_file, check_files=False).training] == [True] * 3
    assert read_saved(folder.settings_file).data.file == Path(moved) / "data.json"


def data_text(listed: dict[str, object], folder: Path) -> str:
    return json.dumps(listed).replace(f"{folder}/data/", f"{folder}/elsewhere/scans/")


def test_other_voxels_under_the_same_name_are_refused(tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data", 3, 1), tmp_path / "run"
    go(data, run)
    entry = read_datalist(data).validation[0]
    scan = read_scan(entry.image)
    voxels = scan.array_zyx.transpose(2, 1, 0).copy()
    voxels[20, 20, 10] += 1
    write_nifti(entry.image, voxels, np.diag([*scan.spacing_xyz_mm, 1.0]))
    with pytest.raises(UsageError) as caught:
        go(data, run)
    assert caught.value.message == (
        f"{run} was started with other voxels or labels than the files hold now of {entry.name}."
    )
    go(data, tmp_path / "anew")


def test_a_list_with_another_scan_names_it(tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data", 3, 1), tmp_path / "run"
    go(data, run)
    listed = json.loads(data.read_text())
    gone = listed["training"].pop()
    data.write_text(json.dumps(listed))
    with pytest.raises(UsageError) as caught:
        go(data, run)
    assert caught.value.message == (
        f"{run} was started with other scans: 3 training and 1 validation, and now 2 training and 1 validation; "
        f"gone are {Path(gone['image']).name}."
    )
    listed["training"] = [*listed["training"][::-1], gone]
    data.write_text(json.dumps(listed))
    with pytest.raises(UsageError, match="they come in another order"):
        go(data, run)


def test_weights_count_by_what_they_hold(tmp_path: Path) -> None:
    data, first, run = write_data(tmp_path / "data", 3, 1), tmp_path / "first", tmp_path / "run"
    go(data, first)
    go(data, run, f"model.weights={first}")
    encoder = first / "weights" / "encoder.safetensors"
    go(data, run, f"model.weights={encoder}")
    elsewhere = shutil.copytree(first / "weights", tmp_path / "elsewhere") / "encoder.safetensors"
    go(data, run, f"model.weights={os.path.relpath(elsewhere)}")
    assert read_saved(RunFolder(run).settings_file).model.weights == os.path.relpath(elsewhere)
    go(data, tmp_path / "second", "seed=1")
    second = tmp_path / "second"
    with pytest.raises(UsageError) as caught:
        go(data, run, f"model.weights={second}")
    was = f"{run} was started from {os.path.relpath(elsewhere)}"
    assert caught.value.message == f"{was}, and {second} holds other weights."
    shutil.copy(second / "weights" / "encoder.safetensors", elsewhere)
    with pytest.raises(UsageError, match=r"was started from other weights than .* holds now"):
        go(data, run, f"model.weights={os.path.relpath(elsewhere)}")
    elsewhere.unlink()  # they are not needed any more
    go(data, run, f"model.weights={os.path.relpath(elsewhere)}")
    with pytest.raises(UsageError, match=r"model\.weights: .* -> None"):
        go(data, run)
