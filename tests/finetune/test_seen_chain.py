"""A whole fine-tuning run from weights that have seen a validation case: said, kept, and refused where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.finetune.tiny_task import TINY, make_data, tiny_finetune
from voco_cli.config import load_settings
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, read_manifest, training_scans, write_manifest
from voco_cli.data.io.image import voxel_hash
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import VocoError
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import PreparedFinetuning, run_finetuning


class Listening(Callback):
    """Keeps what is told before the training."""

    def prepared(self, prepared: PreparedFinetuning) -> None:
        self.told = prepared


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a run on it whose weights claim a pre-training on the first validation case."""
    folder = tmp_path_factory.mktemp("chain")
    tiny_finetune(make_data(folder / "data"), folder / "first", "train.steps=2")
    leaked = read_datalist(folder / "first" / "data.json").validation[0]
    big = training_scans("pre-training", "big", [ScanIdentity("z", "zoe", voxel_hash(read_scan(leaked.image)))])
    own = read_manifest(folder / "first" / "weights" / "seen.json")
    write_manifest(TrainingManifest((big, *own.stages)), folder / "first" / "weights" / "seen.json")
    return folder


def test_a_run_keeps_what_it_saw(first: Path) -> None:
    stages = read_manifest(first / "first" / "weights" / "seen.json").stages
    training = read_datalist(first / "first" / "data.json").training
    assert [(stage.stage, len(stage)) for stage in stages] == [("pre-training", 1), ("fine-tuning", 3)]
    hashes = [voxel_hash(read_scan(entry.image)) for entry in training]
    assert stages[1].known("voxel_hash", hashes) == set(hashes)
    summary = json.loads((first / "first" / "evaluation" / "validation" / "summary.json").read_text())
    assert summary["leakage"]["clean"] is True  # as it was when it was measured


def test_the_next_run_says_so_before_it_trains_and_with_its_figures(first: Path) -> None:
    leaked = read_datalist(first / "first" / "data.json").validation[0].name
    callback = Listening()
    weights = f"model.weights={first / 'first'}"
    tiny_finetune(first / "data", first / "second", "train.steps=2", weights, callback=callback)
    assert [(one.kind, one.stage, one.cases) for one in callback.told.leakage.found] == [
        ("scan", "pre-training", (leaked,))
    ]
    summary = json.loads((first / "second" / "evaluation" / "validation" / "summary.json").read_text())
    assert summary["leakage"]["found"][0]["cases"] == [leaked]
    table = (first / "second" / "evaluation" / "validation" / "table.md").read_text()
    assert f"1 of 2 evaluated cases was in the pre-training (big), voxel for voxel: {leaked}." in table
    stages = read_manifest(first / "second" / "weights" / "seen.json").stages
    assert [stage.stage for stage in stages] == ["pre-training", "fine-tuning", "fine-tuning"]


def test_clean_is_required_before_anything_is_trained(first: Path) -> None:
    flags = {"data.root": first / "data", "run.dir": first / "refused", "model.weights": str(first / "first")}
    settings = load_settings(None, None, TINY, flags, task="btcv")
    with pytest.raises(VocoError, match="was in the pre-training") as refused:
        run_finetuning(settings, Callback(), clean=True)
    assert refused.value.exit_code == 1
    assert not list((first / "refused" / "checkpoints").iterdir())
