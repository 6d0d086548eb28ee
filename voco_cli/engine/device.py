"""Where a run computes: device, number format and processes, all through accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from voco_cli.engine.allocator import keep_freed_memory
from voco_cli.engine.job import Place
from voco_cli.errors import UsageError
from voco_cli.settings.sections import Run

# The main process may build a cache for hours while the others wait.
PATIENCE = timedelta(days=7)


def build_accelerator(run: Run) -> Accelerator:
    """The accelerator that the settings ask for.

    Raises:
        UsageError: a device that this machine does not have.
    """
    _prepare(run)
    torch.backends.cudnn.benchmark = True  # steps have one size: trying each convolution's algorithms once pays
    if ":" in run.device:
        os.environ["ACCELERATE_TORCH_DEVICE"] = run.device
    # Left to itself, accelerate would not let processes without GPUs know of each other.
    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    return Accelerator(
        cpu=run.device == "cpu" or not has_accelerator,
        mixed_precision="bf16" if _wants_bf16(run) else "no",
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ],
    )


def place_of(accelerator: Accelerator) -> Place:
    """What a job needs to know of the accelerator."""
    return Place(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator.autocast)


def device_alone(run: Run) -> tuple[torch.device, Callable[[], AbstractContextManager[Any]]]:
    """The device that the settings ask for, and the context of its number format, for work in one process.

    Nothing is set up that would stay: a process may train and predict, or predict by several runs.

    Raises:
        UsageError: a device that this machine does not have.
    """
    _prepare(run)
    name = run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if not _wants_bf16(run):
        return device, nullcontext
    return device, partial(torch.autocast, device.type, torch.bfloat16)


def _prepare(run: Run) -> None:
    if run.keep_memory:
        keep_freed_memory()
    if run.threads != "auto":
        torch.set_num_threads(run.threads)
    require_device(run)


def require_device(run: Run) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        UsageError: it is asked for.
    """
    if run.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"run.device is {run.device}, but there is no CUDA device here.", "use run.device=auto or cpu")
    if run.device == "mps" and not torch.backends.mps.is_available():
        raise UsageError("run.device is mps, but there is none here.", "use run.device=auto or cpu")


def in_half(run: Run, device: torch.device) -> bool:
    """Whether networks on a GPU compute in bf16: as the setting has it, or as the card can."""
    return device.type == "cuda" and _wants_bf16(run)


def _wants_bf16(run: Run) -> bool:
    return run.precision == "bf16" or (run.precision == "auto" and run.device != "cpu" and _has_bf16())


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
