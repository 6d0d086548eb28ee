"""Cores, memory, GPU, and the limits that a system or a container sets."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Any

from voco_cli.operating_system import open_file_limits, usable_cores
from voco_cli.planning.doctor.check import Check
from voco_cli.settings import Settings

LEAST_MEMORY_BYTES = 1_000_000_000
"""The recipe debug took 0.97 GB with a loader process."""
SMALL_MEMORY_BYTES = 4_000_000_000
LEAST_FILES, FEW_FILES = 128, 1024
"""A loader process keeps up to 64 volumes open, and the libraries some more."""
SHARED = Path("/dev/shm")
QUOTA_FILES = {2: ("cpu.max",), 1: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
"""Of each version of control groups."""
DRIVER, DRIVER_VERSION = Path("/dev/nvidiactl"), Path("/sys/module/nvidia/version")
GIGA = 1e9


def cores() -> Check:
    """Cores of the machine, those that may be used, and the threads of the tensor library."""
    import torch

    machine, usable, quota = os.cpu_count() or 1, usable_cores(), core_quota()
    threads = torch.get_num_threads()
    values = {"cores": machine, "usable": usable, "quota": quota, "threads": threads}
    found = f"{usable} of {machine} cores; threads for tensors: {threads}"
    if quota is not None and quota < usable:
        whole = max(1, round(quota))
        advice = f"--set run.threads={whole} --set data.workers={max(0, whole - 1)} --set cache.workers={whole}"
        return Check("processor", "warning", f"{found}; the container allows {quota:g} at a time", advice, values)
    return Check("processor", "ok", found, values=values)


def core_quota(*places: Path) -> float | None:
    """Cores that a control group of either version lets the process use at a time; none where it sets no limit.

    Args:
        places: as for `group_folders`, where not the usual ones.
    """
    from voco_cli.host_memory import group_folders

    quotas = []
    for version, folder in group_folders("cpu", *places):
        try:
            quota, period = " ".join((folder / name).read_text().strip() for name in QUOTA_FILES[version]).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory() -> Check:
    """Memory of the machine, or of its container or batch job."""
    from voco_cli.host_memory import free_host_bytes, total_host_bytes

    total, free = total_host_bytes(), free_host_bytes()
    values = {"total_bytes": total, "free_bytes": free}
    found = f"{free / GIGA:.1f} GB free of {total / GIGA:.1f} GB"
    if free < LEAST_MEMORY_BYTES:
        return Check("memory", "problem", found, "free some: even the recipe debug takes 1 GB", values)
    if free < SMALL_MEMORY_BYTES:
        return Check(
            "memory", "warning", found, "enough for the recipe debug; voco plan says what another needs", values
        )
    return Check("memory", "ok", found, values=values)


def gpus() -> Iterator[Check]:
    """One line a GPU, or why there is none."""
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

    from voco_cli.networks.kernels import triton_here

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
        advice = "training runs in fp32: slower, and with more memory"
        return Check(f"GPU {index}", "warning", f"{found}, no bf16", advice, values)
    if missing is not None:
        advice = "mend it, or SwinUNETR takes three times as long, and more memory; Triton needs a C compiler"
        return Check(f"GPU {index}", "warning", f"{found}, bf16; {missing}", advice, values)
    return Check(f"GPU {index}", "ok", f"{found}, bf16", values=values)


def _no_gpu(built: str | None, said: str | None) -> Check:
    values = {"cuda": built, "driver": _read(DRIVER_VERSION)}
    cpu_alone = "training runs on the processor: enough for the recipe debug, days for the others"
    if DRIVER.exists() and built is None:
        found = "an NVIDIA driver is here, but torch was built without CUDA"
        return Check("GPU", "warning", found, "install the torch that fits the driver: https://pytorch.org", values)
    if said is not None:
        return Check(
            "GPU", "warning", f"torch finds none: {said}", "update the driver, or install another torch", values
        )
    how = "torch was built without CUDA" if built is None else f"torch was built for {built} and finds none"
    return Check("GPU", "warning", f"none; {how}", cpu_alone, values)


def shared_memory(settings: Settings) -> Check:
    """Room for the batches that loader processes hand over."""
    from voco_cli.engine.loading import loader_workers

    crops, workers = settings.crops, loader_workers(settings.data)
    voxels = crops.random_per_volume * math.prod(crops.size) + math.prod(crops.grid_xyz) * math.prod(
        crops.base_size_vox
    )
    needed = workers * settings.data.prefetch * settings.train.batch_size * voxels
    if not SHARED.is_dir():
        return Check("shared memory", "ok", "this system has no /dev/shm")
    free = disk_usage(SHARED).free
    values = {"free_bytes": free, "needed_bytes": needed, "loaders": workers}
    loading = f"loader processes: {workers}, which need {needed / GIGA:.1f} GB with the recipe {settings.recipe}"
    found = f"{free / GIGA:.1f} GB free; {loading}"
    if free < needed:
        advice = "give the container more (docker run --shm-size=8g), or --set data.prefetch=1 or data.workers=0"
        return Check("shared memory", "warning", found, advice, values)
    return Check("shared memory", "ok", found, values=values)


def open_files() -> Check:
    """How many files a process may have open."""
    limits = open_file_limits()
    if limits is None:
        return Check("open files", "ok", "as many as one likes")
    soft, hard = limits
    values = {"soft": soft, "hard": hard}
    if 0 <= soft < FEW_FILES:
        status = "problem" if soft < LEAST_FILES else "warning"
        return Check("open files", status, f"at most {soft} a process", "ulimit -n 4096", values)  # type: ignore[arg-type]
    return Check("open files", "ok", "as many as one likes" if soft < 0 else f"at most {soft} a process", values=values)


def allocator(settings: Settings) -> Check:
    """Whether freed memory stays in the process."""
    from voco_cli.engine.allocator import keep_freed_memory

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
