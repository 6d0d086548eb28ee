"""Two processes on this machine, forked from this one: the fast twin of the test that goes through torchrun."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from tests.pretrain.tiny_run import tiny_run, write_data
from tests.training.made_job import numbers, state
from tests.training.processes import run_together
from voco_cli.config.schema import Run
from voco_cli.operating_system import GivenCores
from voco_cli.pretrain.task import PretrainingTask
from voco_cli.training.distributed import build_accelerator, device_context

STEPS = ("train.steps=3", "train.validate_every=3", "train.checkpoint_every=3", "train.warmup_start=0.5")


def _be_one_of_two(process: int, data: Path, run: Path, seen: Path) -> None:
    plain_cases = PretrainingTask.cases

    def noted_cases(self, batch):  # type: ignore[no-untyped-def]
        with seen.open("a") as file:
            file.write("".join(f"{name}\n" for name in batch.names))
        return plain_cases(self, batch)

    PretrainingTask.cases = noted_cases  # type: ignore[method-assign]
    result = tiny_run(data, run, "train.batch_size=1", *STEPS)
    assert result.is_main_process == (process == 0)


def test_two_processes_of_one_scan_are_one_process_of_two(tmp_path: Path) -> None:
    data, pair = write_data(tmp_path / "data"), tmp_path / "pair"
    tiny_run(data, tmp_path / "alone", "train.batch_size=2", *STEPS)
    run_together(lambda process: _be_one_of_two(process, data, pair, tmp_path / f"seen-{process}"))

    seen = [(tmp_path / f"seen-{process}").read_text().split() for process in range(2)]
    assert len(set(seen[0]) | set(seen[1])) == 6  # an epoch: three steps of two different scans
    assert [path.name for path in (pair / "checkpoints").iterdir()] == ["step-000003"]
    assert state(pair)["status"] == "done"
    for ours, theirs in zip(numbers(pair), numbers(tmp_path / "alone"), strict=True):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"])
        for name in ("loss", "prediction", "regularisation", "grad_norm", "rank", "base_cosine"):
            if name in ours:
                assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-5)
    models = [
        load_file(run / "checkpoints" / "step-000003" / "model.safetensors") for run in (pair, tmp_path / "alone")
    ]
    for name, tensor in models[0].items():
        if tensor.ndim == 1:
            continue  # a bias before a norm has a gradient of 0, and Adam makes a full step of its rounding errors
        torch.testing.assert_close(tensor, models[1][name], rtol=0, atol=2e-4)


def _train_stages(data: Path, run: Path) -> None:
    stages = "stages=[{}, {objective: {voco: {weight: 0}, rotation: {weight: 1}}}]"
    tiny_run(data, run, "train.batch_size=1", *STEPS, stages)


def test_two_processes_go_on_to_the_next_stage_together(tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data"), tmp_path / "run"
    run_together(lambda process: _train_stages(data, run))
    assert (state(run)["status"], state(run / "stages" / "1-voco")["status"]) == ("done", "done")
    before = load_file(run / "stages" / "1-voco" / "weights" / "encoder.safetensors")
    after = load_file(run / "weights" / "encoder.safetensors")
    assert before.keys() == after.keys()
    assert not all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def _have_cores(process: int) -> None:
    mask = frozenset(range(8) if process == 0 else range(4, 10))
    with patch("voco_cli.training.distributed.given_cores", lambda: GivenCores("node", mask, None)):
        context = device_context(build_accelerator(Run(device="cpu")))
    assert (context.process, context.num_processes, context.cores) == (process, 2, [6, 4][process])


def test_two_processes_share_the_cores_on_which_both_may_run() -> None:
    run_together(_have_cores)
