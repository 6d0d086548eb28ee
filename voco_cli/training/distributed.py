"""What several processes do as one: whatever fails on one of them fails on all, with the same sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list, gather_object

from voco_cli.config.schema import Run
from voco_cli.errors import UsageError, VocoError
from voco_cli.operating_system import given_cores, keep_freed_memory, share_of_cores
from voco_cli.training.task import DeviceContext

T = TypeVar("T")
EVERYWHERE = "on every process"
"""Note on an error that all processes end with."""
ALONE = "on process"
"""How the note on the error of one process begins."""


def run_on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Do something on the main process while the others wait for its result.

    Returns:
        what the action returned, on every process; it must be picklable where there are several.
    Raises:
        VocoError: the action's, on every process.
    """
    outcome: list[Any] = [_outcome(action) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    result: T = _result(outcome[0], accelerator)
    return result


def run_on_all(accelerator: Accelerator, action: Callable[[], T]) -> list[T]:
    """Do something on every process.

    Returns:
        what it returned, by process.
    Raises:
        VocoError: that of the first process on which it failed, on every process.
    """
    outcomes = [_outcome(action)]
    if accelerator.num_processes > 1:
        outcomes = gather_object(outcomes)
    return [_result(outcome, accelerator) for outcome in outcomes]


def _outcome(action: Callable[[], T]) -> T | VocoError:
    try:
        return action()
    except VocoError as error:
        return error


def _result(outcome: Any, accelerator: Accelerator) -> Any:
    if isinstance(outcome, VocoError):
        if accelerator.num_processes > 1:
            outcome.add_note(EVERYWHERE)
        raise outcome
    return outcome


@contextmanager
def annotate_rank(accelerator: Accelerator) -> Iterator[None]:
    """Note on an error that this process alone ends with which one it is, as the main process does not know of it."""
    try:
        yield
    except VocoError as error:
        if accelerator.process_index and EVERYWHERE not in getattr(error, "__notes__", ()):
            error.add_note(f"{ALONE} {accelerator.process_index}")
        raise


# The main process may build a cache for hours while the others wait.
PATIENCE = timedelta(days=7)


def build_accelerator(run: Run) -> Accelerator:
    """Return the accelerator that the settings ask for.

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


def device_context(accelerator: Accelerator) -> DeviceContext:
    """Return what a task needs to know of the accelerator; every process calls it, to share the cores of each host."""
    given = run_on_all(accelerator, given_cores)
    process = accelerator.process_index
    cores = share_of_cores(given[process], given)
    return DeviceContext(accelerator.device, process, accelerator.num_processes, accelerator.autocast, cores)


def device_alone(run: Run) -> tuple[torch.device, Callable[[], AbstractContextManager[Any]]]:
    """Return the device that the settings ask for, and the context of its number format, for work in one process.

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
    """Return whether networks on a GPU compute in bf16: as the setting has it, or as the card can."""
    return device.type == "cuda" and _wants_bf16(run)


def _wants_bf16(run: Run) -> bool:
    return run.precision == "bf16" or (run.precision == "auto" and run.device != "cpu" and _has_bf16())


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
