"""The smallest fine-tuning run that is one: generated scans laid out as a public set, a U-Net of two channels."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.pretrain.tiny_run import At
from tests.tasks.made_task import write_task
from voco_cli.config import load_settings
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import FinetuneResult, run_finetuning

TINY = (
    "task.missing=leave_out",
    "task.patch_size=16x16x16",
    "task.patches_per_volume=2",
    "preprocess.spacing_mm=null",
    "preprocess.min_size_vox=null",
    "preprocess.resize_vox=null",
    "model.backbone=unet",
    "model.feature_size=2",
    "model.levels=3",
    "train.steps=8",
    "train.batch_size=2",
    "train.checkpoint_every=4",
    "train.validate_every=4",
    "train.log_every=1",
    "evaluate.resamples=100",
    "run.device=cpu",
    "run.threads=1",
    "data.workers=0",
    "cache.workers=1",
)


def make_data(folder: Path, task: str = "btcv") -> Path:
    """Three cases to train on, two that validate, one that is tested where the split has labels for it."""
    return write_task(folder, task)


def tiny_finetune(
    data: Path, run: Path, *override: str, task: str = "btcv", callback: Callback | None = None
) -> FinetuneResult:
    """Fine-tune in this process."""
    flags = {"data.root": data, "run.dir": run}
    return run_finetuning(load_settings(None, None, (*TINY, *override), flags, task=task), callback or Callback())


def killed_finetune(data: Path, run: Path, callback: At, *override: str) -> None:
    """Fine-tune in another process, which ends by SIGKILL where the watcher says."""
    callback.then = lambda: os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        try:
            tiny_finetune(data, run, *override, callback=callback)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
