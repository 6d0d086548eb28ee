from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.pretrain.tiny_run import TINY, At, killed_run, tiny_run, write_data
from tests.training.made_job import numbers, send, state, weights
from voco_cli.config import load_settings
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.cache.volume import compress, to_file_bytes
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.errors import DataError, Interrupted, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.pretrain.cases import case_names
from voco_cli.workflows.pretrain import PretrainResult


@dataclass(frozen=True)
class Done:
    """A run that nothing disturbed."""

    data: Path
    run: Path
    result: PretrainResult


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("tiny")
    data = write_data(folder / "data")
    return Done(data, folder / "run", tiny_run(data, folder / "run"))


def test_run_folder_holds_what_the_design_says(done: Done) -> None:
    steps = [(line["step"], line["split"]) for line in numbers(done.run)]
    trained = [(step, "train") for step in range(1, 13)]
    assert steps == [(0, "validation"), *trained[:6], (6, "validation"), *trained[6:], (12, "validation")]
    assert list((done.run / "tensorboard").glob("events.out.tfevents.*"))
    assert {"settings", "sources", "versions"} == set(yaml.safe_load((done.run / "settings.yaml").read_text()))
    copied, original = read_datalist(done.run / "data.json"), read_datalist(done.data)
    assert [entry.image for entry in copied.training] == [entry.image for entry in original.training]
    assert state(done.run) | {"time": 0} == {"status": "done", "step": 12, "reason": None, "time": 0}
    assert done.result.verdict is not None
    assert done.result.end == {k: v for k, v in numbers(done.run)[-1].items() if k not in ("step", "split")}
    pictures = sorted(path.name for path in (done.run / "figures" / "validation").iterdir())
    assert pictures == ["step-000000.png", "step-000006.png", "step-000012.png"]


def test_encoder_is_written_with_what_it_needs_to_be_used(done: Done) -> None:
    about = json.loads((done.run / "weights" / "encoder.json").read_text())
    assert (about["step"], about["branch"]) == (12, "student")
    assert (about["start_figures"], about["figures"]) == (done.result.start, done.result.end)
    assert done.result.verdict is not None
    assert about["verdict"] == {"status": done.result.verdict.status, "sentence": done.result.verdict.sentence}
    settings = load_settings("debug", None, TINY, {}).settings
    network = build_encoder(settings.model)
    network.load_state_dict(load_file(done.run / "weights" / "encoder.safetensors"))
    trained = load_file(done.run / "checkpoints" / "step-000012" / "model.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trained[f"encoder.{name}"])


@pytest.mark.parametrize(
    ("place", "workers"),
    [({"advanced": 7}, 2), ({"validated": 6}, 0), ({"validated": 12}, 0)],
    ids=["in a step", "after a validation", "before the last checkpoint"],
)
def test_resumed_run_equals_unbroken_run(done: Done, tmp_path: Path, place: dict[str, int], workers: int) -> None:
    killed_run(done.data, tmp_path / "run", At(**place), f"data.workers={workers}")
    result = tiny_run(done.data, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(done.run)
    assert numbers(tmp_path / "run") == numbers(done.run)
    ours, theirs = (run / "checkpoints" / "step-000012" for run in (tmp_path / "run", done.run))
    optimizers = [torch.load(path / "optimizer.pt", weights_only=True) for path in (ours, theirs)]
    torch.testing.assert_close(optimizers[0], optimizers[1], rtol=0, atol=0)
    assert (ours / "checkpoint.json").read_text() == (theirs / "checkpoint.json").read_text()
    assert (result.start, result.end) == (done.result.start, done.result.end)


def test_sigterm_to_the_whole_group_leaves_a_checkpoint_and_no_process(done: Done, tmp_path: Path) -> None:
    before = psutil.Process().children()  # multiprocessing's own helpers of earlier tests

    def to_all() -> None:
        children = [process for process in psutil.Process().children() if process not in before]
        assert len(children) == 2
        for process in children:
            process.send_signal(signal.SIGTERM)
        send(signal.SIGTERM)()

    callback = At(advanced=5, then=to_all)
    with pytest.raises(Interrupted, match="SIGTERM after step 5"):
        tiny_run(done.data, tmp_path / "run", "data.workers=2", callback=callback)
    assert not set(psutil.Process().children()) - set(before)
    tiny_run(done.data, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(done.run)


def test_finished_run_reports_its_verdict_again(done: Done) -> None:
    before = weights(done.run), numbers(done.run)
    again = tiny_run(done.data, done.run, callback=At(advanced=13))
    assert again == done.result
    assert (weights(done.run), numbers(done.run)) == before


def test_moved_cache_and_other_machine_are_no_drift(done: Done, tmp_path: Path) -> None:
    again = tiny_run(done.data, done.run, f"cache.dir={tmp_path}/cache", "data.workers=1", "train.keep_checkpoints=5")
    assert again == done.result


def test_other_settings_and_other_scans_are_refused(done: Done, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"other settings:\n  train.lr: 0.001 -> 0.5"):
        tiny_run(done.data, done.run, "train.lr=0.5")
    fewer = done.data.with_name("fewer.json")
    content = json.loads(done.data.read_text())
    fewer.write_text(json.dumps({**content, "training": content["training"][:5]}))
    with pytest.raises(UsageError, match="started with other scans: 6 training and 2 validation, and now 5 training"):
        tiny_run(fewer, done.run)


def _spoil(data: Path, index: int, value: float) -> str:
    """Put a value into the cached volume of a training scan; returns its name."""
    settings = load_settings("debug", None, (*TINY, "cache.dtype=float16"), {}).settings
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    entry = read_datalist(data).training[index]
    volume = cache.lookup(entry)
    assert volume is not None
    voxels = volume.read((0, 0, 0), volume.shape_xyz)
    voxels[24, 24, 12] = value
    volume.path.write_bytes(to_file_bytes(compress(voxels, settings.cache), volume.metadata))
    return case_names([entry])[entry.image]


def test_nan_in_a_scan_names_the_step_and_the_scan(done: Done, tmp_path: Path) -> None:
    data = shutil.copytree(done.data.parent, tmp_path / "data") / "data.json"
    run = tmp_path / "run"
    tiny_run(data, run, "cache.dtype=float16", "train.steps=8", "train.warmup_share=0")
    shutil.rmtree(run)
    killed_run(data, run, At(validated=6), "cache.dtype=float16")
    before = weights(run, 4)
    name = _spoil(data, 2, np.nan)
    from voco_cli.data.cache.volume import _open_in_process

    _open_in_process.cache_clear()
    with pytest.raises(DataError, match=rf"The loss became nan at step \d+, with the cases .*{name}") as caught:
        tiny_run(data, run, "cache.dtype=float16")
    assert caught.value.exit_code == 3
    assert state(run)["status"] == "failed"
    assert weights(run, 4) == before


def test_damaged_cache_entry_is_told_from_the_loader(done: Done, tmp_path: Path) -> None:
    data = shutil.copytree(done.data.parent, tmp_path / "data") / "data.json"
    for path in (data.parent / ".voco-cache").rglob("*.b2nd"):
        content = bytearray(path.read_bytes())
        content[len(content) // 3 : len(content) // 2] = os.urandom(len(content) // 2 - len(content) // 3)
        path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"\.b2nd, the cached volume of .*, is damaged"):
        tiny_run(data, tmp_path / "run", "data.workers=1")


def test_fewer_scans_than_a_step_needs_leave_the_folder_free(done: Done, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A step needs 7 different scans"):
        tiny_run(done.data, tmp_path / "run", "train.batch_size=7")
    assert tiny_run(done.data, tmp_path / "run", "train.steps=1").verdict is not None  # no drift: nothing was trained


def test_volumes_too_small_for_the_grid(done: Done, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"None of the 6 training scans .* 96x96x24 are needed") as caught:
        tiny_run(done.data, tmp_path / "run", "preprocess.resize_vox=null", "crops.grid=4x4")
    assert caught.value.exit_code == 2


def test_other_usable_scans_than_before_are_noticed(done: Done, tmp_path: Path) -> None:
    data = shutil.copytree(done.data.parent, tmp_path / "data") / "data.json"
    killed_run(data, tmp_path / "run", At(validated=6))
    shutil.rmtree(data.parent / ".voco-cache")
    read_datalist(data).training[0].image.write_bytes(b"no scan any more")
    with pytest.raises(UsageError, match="trained on 6 usable scans and would go on with 5"):
        tiny_run(data, tmp_path / "run")


def test_without_held_out_scans_there_is_no_verdict(tmp_path: Path) -> None:
    result = tiny_run(write_data(tmp_path / "data", 3, 0), tmp_path / "run", "train.steps=2")
    assert result.verdict is None
    about = json.loads(result.weights.with_suffix(".json").read_text())
    assert (about["start_figures"], about["figures"], about["verdict"]) == ({}, {}, None)
    assert not (tmp_path / "run" / "figures").exists()


STAGES = "stages=[{train: {steps: 6}}, {objective: {voco: {weight: 0}, rotation: {weight: 1}}, train: {lr: 0.002}}]"


def test_stages_hand_on_their_weights_and_a_killed_one_resumes_to_the_same(done: Done, tmp_path: Path) -> None:
    whole = tiny_run(done.data, tmp_path / "whole", STAGES)
    first = tmp_path / "whole" / "stages" / "1-voco"
    assert (state(first)["step"], state(tmp_path / "whole")["step"]) == (6, 12)
    start = load_file(first / "weights" / "encoder.safetensors")
    alone = tiny_run(done.data, tmp_path / "alone", "train.steps=6")
    assert all(torch.equal(start[name], t) for name, t in load_file(alone.weights).items())
    report = json.loads((tmp_path / "whole" / "weights_report.json").read_text())
    assert report["encoder_share"] == 1.0
    assert set(whole.infos) == set(json.loads((tmp_path / "whole" / "objective.json").read_text())["figures"])
    for callback in (At(advanced=5), At(advanced=9)):  # once in each stage
        killed_run(done.data, tmp_path / "killed", callback, STAGES)
    again = tiny_run(done.data, tmp_path / "killed", STAGES)
    assert all(torch.equal(load_file(whole.weights)[name], t) for name, t in load_file(again.weights).items())
