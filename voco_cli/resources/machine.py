"""What this machine has: processor, memory, GPUs, limits and file systems, and how a check of them is graded."""

from __future__ import annotations

import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Literal

from voco_cli.config import Settings
from voco_cli.data.cache.entry import SPARE_BYTES
from voco_cli.errors import VocoError
from voco_cli.object_stores import is_remote
from voco_cli.operating_system import core_quota, open_file_limits, usable_cores

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """A finding about this machine.

    Attributes:
        name: what was checked.
        status: a problem is what keeps pre-training from running.
        found: in a few words.
        advice: what to do; none where nothing is to be done.
        values: the numbers, for ``--json``.
    """

    name: str
    status: Status
    found: str
    advice: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


Limit = tuple[float, Status, str]
"""Below how much of something a check is no longer ok, what it is then, and what to do."""


def graded(name: str, found: str, values: Mapping[str, Any], have: float, *limits: Limit) -> Check:
    """Return a check by the first limit that ``have`` is below; ok where it is below none."""
    for least, status, advice in limits:
        if have < least:
            return Check(name, status, found, advice, values)
    return Check(name, "ok", found, values=values)


def run_checks(
    name: str, check: Callable[..., Check | Iterator[Check]], *given: Any, failing: Status = "warning"
) -> Iterator[Check]:
    """Yield what a check finds, one line or several; one that ends early yields those that it had, and why it ended.

    Args:
        name: of the line that says why.
        given: arguments of the check.
        failing: how bad it is that the check cannot be done.
    """
    try:
        found = check(*given)
        yield from [found] if isinstance(found, Check) else found
    except VocoError as error:
        yield Check(name, failing, error.message, error.hint)
    except Exception as error:  # whatever a broken installation raises is a finding
        yield Check(name, failing, f"could not be checked ({type(error).__name__}: {error})")


TEMPORARY = ".voco-temporary-"
LEAST_BYTES = 200_000_000
"""On a disk with less there is no room to try anything: the recipe debug writes 75 MB beside its cache."""
STALE_AFTER_S = 24 * 3600.0
"""A temporary folder this old was left by a process that was killed."""


LEAST_MEMORY_BYTES = 1_000_000_000
"""The recipe debug took 0.97 GB with a loader process."""
SMALL_MEMORY_BYTES = 4_000_000_000
LEAST_FILES, FEW_FILES = 128, 1024
"""A loader process keeps up to 64 volumes open, and the libraries some more."""
SHARED = Path("/dev/shm")
DRIVER, DRIVER_VERSION = Path("/dev/nvidiactl"), Path("/sys/module/nvidia/version")
GIGA = 1e9


def cores() -> Check:
    """Count the cores of the machine, those that may be used, and the threads of the tensor library."""
    import torch

    machine, usable, quota = os.cpu_count() or 1, usable_cores(), core_quota()
    threads = torch.get_num_threads()
    values = {"cores": machine, "usable": usable, "quota": quota, "threads": threads}
    found = f"{usable} of {machine} cores; threads for tensors: {threads}"
    if quota is not None and usable < threads:
        advice = f"--set run.threads={usable}"
        return Check("processor", "warning", f"{found}; the container allows {quota:g} at a time", advice, values)
    return Check("processor", "ok", found, values=values)


def memory() -> Check:
    """Check the memory of the machine, or of its container or batch job."""
    from voco_cli.operating_system import free_host_bytes, total_host_bytes

    total, free = total_host_bytes(), free_host_bytes()
    values = {"total_bytes": total, "free_bytes": free}
    found = f"{free / GIGA:.1f} GB free of {total / GIGA:.1f} GB"
    return graded(
        *("memory", found, values, free),
        (LEAST_MEMORY_BYTES, "problem", "free some: even the recipe debug takes 1 GB"),
        (SMALL_MEMORY_BYTES, "warning", "enough for the recipe debug; voco plan says what another needs"),
    )


def gpus() -> Iterator[Check]:
    """Yield one line a GPU, or why there is none."""
    import torch

    built = torch.version.cuda or (f"ROCm {torch.version.hip}" if torch.version.hip else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        if torch.backends.mps.is_available():
            yield Check("GPU", "ok", "Apple's, through MPS")
            return
        yield _no_gpu(built, str(caught[0].message).splitlines()[0] if caught else None)
        return
    for index in range(torch.cuda.device_count()):
        yield _gpu(index, built)


def _gpu(index: int, built: str | None) -> Check:
    import torch

    from voco_cli.models.kernels import triton_here

    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    with torch.cuda.device(index):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    driver, missing = _read(DRIVER_VERSION), triton_here.missing(index)
    values: dict[str, Any] = {
        "name": properties.name,
        "total_bytes": total,
        "free_bytes": free,
        "capability": f"{properties.major}.{properties.minor}",
        "bf16": bf16,
        "kernels": missing is None,
        "cuda": built,
        "driver": driver,
    }
    found = f"{properties.name}, {free / GIGA:.1f} GB free of {total / GIGA:.1f} GB, CUDA {built}"
    found += f", driver {driver}" if driver else ""
    if not bf16:
        found, advice = f"{found}, no bf16", "training runs in fp32: slower, and with more memory"
    elif missing is not None:
        found = f"{found}, bf16; {missing}"
        advice = (
            "mend it, or attention in windows takes three times as long, and more memory; Triton needs a C compiler"
        )
    else:
        return Check(f"GPU {index}", "ok", f"{found}, bf16", values=values)
    return Check(f"GPU {index}", "warning", found, advice, values)


def _no_gpu(built: str | None, said: str | None) -> Check:
    values = {"cuda": built, "driver": _read(DRIVER_VERSION)}
    if DRIVER.exists() and built is None:
        found = "an NVIDIA driver is here, but torch was built without CUDA"
        advice = "install the torch that fits the driver: https://pytorch.org"
    elif said is not None:
        found, advice = f"torch finds none: {said}", "update the driver, or install another torch"
    else:
        how = "torch was built without CUDA" if built is None else f"torch was built for {built} and finds none"
        found = f"none; {how}"
        advice = "training runs on the processor: enough for the recipe debug, days for the others"
    return Check("GPU", "warning", found, advice, values)


def shared_memory(settings: Settings) -> Check:
    """Check whether there is room for the batches that loader processes hand over."""
    from voco_cli.training.dataloader import batches_at_once, loader_workers

    crops, workers = settings.crops, loader_workers(settings.data)
    voxels = settings.objective.encoder_passes(crops)[0] * math.prod(crops.size)
    needed = workers * batches_at_once(settings.data) * settings.train.batch_size * voxels
    if not SHARED.is_dir():
        return Check("shared memory", "ok", "this system has no /dev/shm")
    free = shutil.disk_usage(SHARED).free
    values = {"free_bytes": free, "needed_bytes": needed, "loaders": workers}
    found = f"{free / GIGA:.1f} GB free; loader processes: {workers}, "
    found += f"which need {needed / GIGA:.1f} GB with the recipe {settings.recipe}"
    advice = "give the container more (docker run --shm-size=8g), or --set data.prefetch=1 or data.workers=0"
    return graded("shared memory", found, values, free, (needed, "warning", advice))


def open_files() -> Check:
    """Check how many files a process may have open."""
    limits = open_file_limits()
    if limits is None:
        return Check("open files", "ok", "as many as one likes")
    soft, hard = limits
    values = {"soft": soft, "hard": hard}
    if soft < 0:
        return Check("open files", "ok", "as many as one likes", values=values)
    more = "ulimit -n 4096"
    found = f"at most {soft} a process"
    return graded("open files", found, values, soft, (LEAST_FILES, "problem", more), (FEW_FILES, "warning", more))


def allocator(settings: Settings) -> Check:
    """Check whether freed memory stays in the process."""
    from voco_cli.operating_system import keep_freed_memory

    if not settings.run.keep_memory:
        return Check("allocator", "ok", "freed memory goes back to the system (run.keep_memory is off)")
    kept = keep_freed_memory()
    values = {"kept": kept}
    if not kept:
        found = "freed memory goes back to the system: this is no glibc"
        return Check("allocator", "warning", found, "nothing to do; steps on a processor are slower", values)
    return Check("allocator", "ok", "freed memory is kept, which makes steps on a processor faster", values=values)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def existing_parent(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists; of a store's that for temporary files."""
    if is_remote(folder):
        return Path(gettempdir())
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def mount_point(folder: Path) -> Path:
    """Return the top folder of the file system that a folder lies on."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if os.path.ismount(one)), resolved)


def bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def free_disk_bytes(folder: Path) -> int:
    """Return what may be written where an existing folder lies; a little is always left."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Make a folder on the disk of another, or where temporary files go if that is full; remove it whatever happens."""
    existing = existing_parent(beside)
    usable = os.access(existing, os.W_OK) and shutil.disk_usage(existing).free >= LEAST_BYTES
    place = existing if usable else Path(gettempdir())
    for left in place.glob(f"{TEMPORARY}*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
