"""Frozen encoders on tiny scans whose structures differ in brightness, and on categories that do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.cache.made_scans import oriented_affine, write_nifti
from tests.tasks.made_balls import write_balls
from voco_cli.config import load_settings
from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights.write import write_encoder
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.probe import ProbeResult, network_overrides, run_probe

PRESET = """
task:
  name: balls
  layouts: [{image: "image/{case}.nii.gz", label: "label/{case}.nii.gz"}]
  classes: [{name: ball, values: 1}, {name: core, values: 2}]
  split: seeded
  test_patients: 3
  validation_patients: 1
  patch_size: [12, 12, 12]
preprocess: {window_hu: [0, 255], foreground_above: null}
model: {backbone: unet, feature_size: 8, levels: 3}
run: {device: cpu, threads: 1, keep_memory: false}
cache: {workers: 1}
"""
MODEL = Model(backbone="unet", feature_size=8, levels=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine scans of 12 x 12 x 12 voxels with a bright ball and a brighter core, little noise."""
    root = tmp_path_factory.mktemp("probe")
    write_balls(root / "data", background=40, step=80, noise=3)
    (root / "balls.yaml").write_text(PRESET)
    torch.manual_seed(5)
    about = {"model": MODEL.model_dump(mode="json")}
    write_encoder(root / "weights", build_encoder(MODEL), about)
    return root


def probed(folder: Path, *weights: str, **flags: object) -> ProbeResult:
    given = {"data.root": folder / "data", "cache.dir": folder / "cache", **flags}
    return run_probe(load_settings(None, None, (), given, task=str(folder / "balls.yaml")), weights, Callback())


def test_a_linear_model_on_frozen_features_finds_what_differs_in_brightness(folder: Path) -> None:
    result = probed(folder, str(folder / "weights" / "encoder.safetensors"))
    fresh, given = result.encoders
    assert (fresh.weights, fresh.loaded, given.loaded) == ("none", 0.0, 1.0)
    assert (result.num_training, result.num_measured, result.split) == (5, 3, "test")
    assert list(fresh.figures) == [
        "linear Dice",
        "linear Dice, ball",
        "linear Dice, core",
        "same region",
        "same patient",
    ]
    both = (fresh.figures["linear Dice"].value, given.figures["linear Dice"].value)
    assert min(both) > 0.6  # even of random features: values alone tell the classes
    difference = given.figures["linear Dice"].minus_fresh
    assert difference is not None
    assert difference[0] == pytest.approx(both[1] - both[0])
    assert difference[1] <= difference[0] <= difference[2]
    assert fresh.figures["linear Dice"].minus_fresh is None
    mean = np.mean([fresh.figures[f"linear Dice, {name}"].value for name in ("ball", "core")])
    assert both[0] == pytest.approx(mean)
    assert result.chance == {"same region": 1 / 8, "same patient": pytest.approx(1 / 3)}


def test_the_same_call_gives_the_same_figures(folder: Path) -> None:
    weights = str(folder / "weights" / "encoder.safetensors")
    assert [one.figures for one in probed(folder, weights).encoders] == [
        one.figures for one in probed(folder, weights).encoders
    ]


def test_one_class_is_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    affine = oriented_affine("RAS", (1.0, 1.0, 1.0))
    for part in ("image", "label"):
        (tmp_path / part).mkdir()
    for i in range(9):
        write_nifti(tmp_path / "image" / f"case{i}.nii.gz", np.full((12, 12, 12), i, np.int16), affine)
        write_nifti(tmp_path / "label" / f"case{i}.nii.gz", np.zeros((12, 12, 12), np.uint8), affine)
    with pytest.raises(UsageError, match=r"training cases hold one class only, and a probe needs two\.$"):
        probed(folder, str(folder / "weights" / "encoder.safetensors"), **{"data.root": tmp_path})


CATEGORIES = """
task:
  name: bright
  kind: classification
  layouts: [{image: "{case}.nii.gz"}]
  table: table.csv
  classes: [{name: dark, values: 0}, {name: bright, values: 1}]
  split: seeded
  test_patients: 6
  validation_patients: 2
preprocess: {window_hu: [0, 255], foreground_above: null, resize_vox: [12, 12, 12]}
model: {backbone: unet, feature_size: 8, levels: 3}
run: {device: cpu, threads: 1, keep_memory: false}
cache: {workers: 1}
"""


def bright_and_dark(root: Path, categories: tuple[str, ...] = ("dark", "bright")) -> None:
    rng = np.random.default_rng(1)
    affine = oriented_affine("RAS", (1.0, 1.0, 1.0))
    rows = ["case,label"]
    for i in range(20):
        image = rng.normal(60, 10, (12, 12, 12))
        image[3:9, 3:9, 3:9] += 100 * (i % 2)
        write_nifti(root / f"case{i:02d}.nii.gz", image.clip(0, 255).astype(np.int16), affine)
        rows.append(f"case{i:02d},{categories[i % len(categories)]}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "bright.yaml").write_text(CATEGORIES)


def test_categories_by_a_linear_model_and_by_neighbours(folder: Path, tmp_path: Path) -> None:
    bright_and_dark(tmp_path)
    given = {"data.root": tmp_path, "cache.dir": tmp_path / "cache"}
    resolved = load_settings(None, None, (), given, task=str(tmp_path / "bright.yaml"))
    result = run_probe(resolved, [str(folder / "weights" / "encoder.safetensors")], Callback())
    names = ["linear AUC", "linear balanced accuracy", "kNN AUC", "kNN balanced accuracy"]
    assert list(result.encoders[1].figures) == names
    assert {name: result.encoders[1].figures[name].value for name in names} == dict.fromkeys(names, 1.0)
    assert result.chance == dict.fromkeys(names, 0.5)


def test_one_category_is_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    bright_and_dark(tmp_path, ("dark",))
    given = {"data.root": tmp_path, "cache.dir": tmp_path / "cache"}
    resolved = load_settings(None, None, (), given, task=str(tmp_path / "bright.yaml"))
    with pytest.raises(UsageError, match=r"^The 12 training cases are all of one category, and a probe needs two\.$"):
        run_probe(resolved, [str(folder / "weights" / "encoder.safetensors")], Callback())


def test_the_settings_by_which_a_task_has_the_network_of_weights(folder: Path) -> None:
    weights = str(folder / "weights" / "encoder.safetensors")
    task = load_settings(None, None, (), task="msd_hippocampus").settings
    assert network_overrides(task, weights) == ["model.feature_size=8", "model.levels=3"]
    own = load_settings(None, None, (), task=str(folder / "balls.yaml")).settings
    assert network_overrides(own, weights) == []
