from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.made_job import Hooks, LineTask, make_loop, numbers, state, weights
from voco_cli.errors import DataError, ResourceError
from voco_cli.training.checkpoint import list_checkpoints, load_checkpoint, remove_unfinished, save_checkpoint
from voco_cli.training.loggers import Loggers


def _model() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def _save(folder: Path, step: int = 10) -> None:
    save_checkpoint(folder, step, *_model(), 1.5, {"history": {"0": 1}})


def test_checkpoint_brings_everything_back(tmp_path: Path) -> None:
    model, optimizer = _model()
    saved = save_checkpoint(tmp_path, 10, model, optimizer, 1.5, {"history": [1]})
    drawn = torch.rand(3)
    other, its_optimizer = _model()
    assert load_checkpoint(list_checkpoints(tmp_path)[0], other, its_optimizer) == {"history": [1]}
    assert torch.equal(torch.rand(3), drawn)
    assert (saved.step, saved.score) == (10, 1.5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    ours, theirs = optimizer.state_dict()["state"], its_optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i][key], theirs[i][key]) for i in ours for key in ours[i])


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000, 20):
        _save(tmp_path, step)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [20, 999_999, 1_000_000]


def test_unfinished_folders_are_no_checkpoints_and_are_removed(tmp_path: Path) -> None:
    _save(tmp_path)
    (tmp_path / ".unfinished-step-000020").mkdir()
    (tmp_path / ".unfinished-step-000020" / "model.safetensors").write_bytes(b"half")
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [10]
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000010"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_damaged_checkpoint_is_one_sentence(tmp_path: Path, name: str, keep: float) -> None:
    _save(tmp_path)
    path = tmp_path / "step-000010" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content) if keep < 1 else keep)])
    with pytest.raises(DataError, match=r"step-000010 cannot be resumed from \(.+\)\.$") as caught:
        load_checkpoint(list_checkpoints(tmp_path)[0], *_model())
    assert caught.value.hint == "remove this folder to resume from the one before"
    assert "\n" not in caught.value.message


def test_missing_and_damaged_description(tmp_path: Path) -> None:
    _save(tmp_path)
    description = tmp_path / "step-000010" / "checkpoint.json"
    for spoil in (lambda: description.write_text("{"), description.unlink):
        spoil()
        with pytest.raises(DataError, match="step-000010 is not a readable checkpoint"):
            list_checkpoints(tmp_path)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    _save(tmp_path)
    other = nn.Linear(5, 2)
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_checkpoint(list_checkpoints(tmp_path)[0], other, torch.optim.AdamW(other.parameters()))


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch " + os.environ["VOCO_TEST_PROOF"],)


def test_loading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = tmp_path / "code-was-run"
    monkeypatch.setenv("VOCO_TEST_PROOF", str(proof))
    _save(tmp_path / "run")
    path = tmp_path / "run" / "step-000010" / "optimizer.pt"
    for write in (lambda: torch.save({"optimizer": _Malicious()}, path), lambda: path.write_bytes(_pickled())):
        write()
        with pytest.raises(DataError, match=r"optimizer.pt is damaged or holds more than tensors"):
            load_checkpoint(list_checkpoints(tmp_path / "run")[0], *_model())
        assert not proof.exists()


def _pickled() -> bytes:
    return pickle.dumps({"optimizer": _Malicious()}, protocol=2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def _fill(disk: Path, leave_bytes: int) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    filler.write_bytes(b"\0" * (free - leave_bytes))
    return filler


class _BigJob(LineTask):
    """200 kB of weights, 600 kB of checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 10_000), nn.Linear(10_000, 1))

    def export(self, folder: Path, step: int) -> None:
        folder.mkdir(exist_ok=True)


@pytest.mark.parametrize("leave", [0, 60_000, 300_000, 500_000])
def test_full_disk_loses_nothing_that_was_written(small_disk: Path, tmp_path: Path, leave: int) -> None:
    run = small_disk / "run"
    make_loop(tmp_path / "unbroken", _BigJob(), amsgrad=False, keep_checkpoints=1).run()
    fillers: list[Path] = []
    hooks = Hooks(advanced_at={6: lambda: fillers.append(_fill(small_disk, leave))})
    loop = make_loop(run, _BigJob(), hooks, amsgrad=False, keep_checkpoints=1)
    with pytest.raises(ResourceError, match=f"The disk of {small_disk}.* is full: ") as caught:
        loop.run()
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000004"]
    fillers[0].unlink()
    make_loop(run, _BigJob(), amsgrad=False, keep_checkpoints=1).run()
    assert weights(run) == weights(tmp_path / "unbroken")
    assert numbers(run) == numbers(tmp_path / "unbroken")
    assert state(run)["status"] == "done"


def test_full_disk_under_the_metrics(small_disk: Path) -> None:
    writer = Loggers(small_disk, 0, ["tensorboard"])
    _fill(small_disk, 0)

    def write_on() -> None:
        for step in range(1000):
            writer.write("train", step, {"loss": 1.0})

    with pytest.raises(ResourceError, match=r"values of step \d+ could not be added to metrics.jsonl"):
        write_on()
    writer.close()


def test_disk_that_fills_up_inside_the_optimizer_file_is_told(tmp_path: Path) -> None:
    # What is half-written is larger than the margin that counts as full: told only if looked at before it is removed.
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        model = nn.Linear(1000, 1000)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 1000)).sum().backward()
        optimizer.step()
        with pytest.raises(ResourceError, match="step-000001 could not be written; there is no earlier one"):
            save_checkpoint(disk / "checkpoints", 1, model, optimizer, None, {})
        assert list((disk / "checkpoints").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
