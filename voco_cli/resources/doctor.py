"""Checks of this machine, in the order in which one would mend what is wrong."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from shutil import disk_usage
from types import ModuleType
from typing import Any, Literal

from voco_cli import __version__
from voco_cli.config import Settings, load_settings
from voco_cli.errors import VocoError
from voco_cli.operating_system import drop_cached_pages, open_file_limits, usable_cores
from voco_cli.resources.disk import LEAST_BYTES, existing_parent, mount_point, temporary_folder

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        name: what was looked at.
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


def looked_at(name: str, look: Callable[[], Check], failing: Status = "warning") -> Check:
    """Do a check; one that cannot even be done becomes a line of its own, and never the end of the others."""
    return next(all_looked_at(name, lambda: iter((look(),)), failing))


def all_looked_at(name: str, look: Callable[[], Iterator[Check]], failing: Status = "warning") -> Iterator[Check]:
    """Do a check of several lines; if it ends early, yield those it had, and why."""
    try:
        yield from look()
    except VocoError as error:
        yield Check(name, failing, error.message, error.hint)
    except Exception as error:  # whatever a broken installation raises is what is being looked for
        yield Check(name, failing, f"could not be looked at ({type(error).__name__}: {error})")


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
    """Count the cores of the machine, those that may be used, and the threads of the tensor library."""
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
    """Return the cores that a control group lets the process use at a time; None where it sets no limit.

    Args:
        places: as for `group_folders`, where not the usual ones.
    """
    from voco_cli.operating_system import group_folders

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
    """Look at the memory of the machine, or of its container or batch job."""
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
        advice = "mend it, or SwinUNETR takes three times as long, and more memory; Triton needs a C compiler"
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
    """Look whether there is room for the batches that loader processes hand over."""
    from voco_cli.training.dataloader import loader_workers

    crops, workers = settings.crops, loader_workers(settings.data)
    voxels = crops.random_per_volume * math.prod(crops.size) + math.prod(crops.grid_xyz) * math.prod(
        crops.base_size_vox
    )
    needed = workers * settings.data.prefetch * settings.train.batch_size * voxels
    if not SHARED.is_dir():
        return Check("shared memory", "ok", "this system has no /dev/shm")
    free = disk_usage(SHARED).free
    values = {"free_bytes": free, "needed_bytes": needed, "loaders": workers}
    found = f"{free / GIGA:.1f} GB free; loader processes: {workers}, "
    found += f"which need {needed / GIGA:.1f} GB with the recipe {settings.recipe}"
    advice = "give the container more (docker run --shm-size=8g), or --set data.prefetch=1 or data.workers=0"
    return graded("shared memory", found, values, free, (needed, "warning", advice))


def open_files() -> Check:
    """Look how many files a process may have open."""
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
    """Look whether freed memory stays in the process."""
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


LEAST_PYTHON = (3, 11)
REQUIRED = {
    "torch": "torch",
    "monai": "monai",
    "accelerate": "accelerate",
    "numpy": "numpy",
    "scipy": "scipy",
    "SimpleITK": "simpleitk",
    "nibabel": "nibabel",
    "pydicom": "pydicom",
    "blosc2": "blosc2",
    "safetensors": "safetensors",
    "psutil": "psutil",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
}
"""Modules that commands import, and the names that they are installed by."""
OPTIONAL = {
    "huggingface_hub": ("hub", "weights from hf://OWNER/REPO/FILE"),
    "pyarrow": ("parquet", "tables of embeddings as Parquet"),
}
"""Modules that not everyone needs: their extra, and what for."""


def program() -> Check:
    """Name this program and its Python."""
    found = f"voco {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    values = {"voco": __version__, "python": platform.python_version(), "platform": platform.platform()}
    if sys.version_info[:2] < LEAST_PYTHON:
        return Check("program", "problem", found, "use Python 3.11 or newer", values)
    return Check("program", "ok", found, values=values)


def libraries() -> Iterator[Check]:
    """Yield one line for all that can be imported, and one for each that cannot."""
    versions: dict[str, str] = {}
    broken: list[Check] = []
    for module, distribution in REQUIRED.items():
        try:
            versions[module] = _version(importlib.import_module(module), distribution)
        except Exception as error:  # a broken library may raise anything at all
            what = f"cannot be imported ({type(error).__name__}: {_first_line(error)})"
            broken.append(Check(module, "problem", what, f"pip install --force-reinstall {distribution}"))
    found = ", ".join(f"{module} {version}" for module, version in versions.items())
    yield Check("libraries", "ok", found or "none can be imported", values=versions)
    yield from broken


def extras() -> Iterator[Check]:
    """Yield what is there beyond what everyone needs."""
    for module, (extra, purpose) in OPTIONAL.items():
        try:
            version = _version(importlib.import_module(module), module)
        except ModuleNotFoundError:
            yield Check(module, "ok", f"not installed; needed for {purpose} alone (pip install 'voco-cli[{extra}]')")
        except Exception as error:  # installed, and broken
            what = f"cannot be imported ({type(error).__name__}: {_first_line(error)})"
            yield Check(module, "warning", what, f"pip install --force-reinstall {module}; it is for {purpose}")
        else:
            yield Check(module, "ok", version, values={"version": version})


def _version(module: ModuleType, distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "of unknown version"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


SMALL_BYTES = 20_000_000_000
"""The checkpoints of the recipe cvpr take 5 GB, the cache of a thousand CTs some 8 GB more."""
VOLUMES = 6
TILES = (4, 4, 4)
PHANTOM_VOX = (96, 96, 24)
SLOW_VOLUMES_PER_S = 20.0
"""What keeps the fastest card busy that was measured: an H100 takes seventeen with the recipe cvpr."""


def room(name: str, folder: Path) -> Check:
    """Look whether a folder, which need not exist yet, can be written to, and how much is free there."""
    existing = existing_parent(folder)
    free = shutil.disk_usage(existing).free
    values = {"folder": str(folder), "free_bytes": free, "mount": str(mount_point(existing))}
    found = f"{folder}: {free / 1e9:.1f} GB free on the disk of {mount_point(existing)}"
    key = "cache.dir" if name == "cache folder" else "run.dir"
    reason = _refusal(existing)
    if reason is not None:
        return Check(name, "problem", f"{folder}: {reason}", f"choose another folder: --set {key}=FOLDER", values)
    return graded(
        *(name, found, values, free),
        (LEAST_BYTES, "problem", f"free some space, or choose another disk: --set {key}=FOLDER"),
        (SMALL_BYTES, "warning", "voco plan DATA says what a run will need"),
    )


def _refusal(existing: Path) -> str | None:
    """Return why nothing can be written into a folder; None where it can."""
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} may not be written to"
    probe = existing / f".voco-probe-{os.getpid()}"
    try:
        probe.write_bytes(b"voco")
    except OSError as error:
        return f"{existing} cannot be written to ({error.strerror or error})"
    finally:
        probe.unlink(missing_ok=True)
    return None


def throughput(folder: Path) -> Check:
    """Write some compressed volumes as the cache does, and read them back from the disk."""
    import numpy as np

    from voco_cli.atomic_files import write_atomic
    from voco_cli.config.schema import Cache
    from voco_cli.data.cache.volume import StoredVolume, compress
    from voco_cli.data.synthetic.generate import generate_ct

    hu = generate_ct(0, PHANTOM_VOX).image_hu_xyz.astype(np.float32)
    stored = np.tile(np.rint(np.clip((hu + 175) / 425, 0, 1) * 255).astype(np.uint8), TILES)
    content = bytes(compress(stored, Cache()).to_cframe())
    with temporary_folder(folder) as beside:
        paths = [beside / f"{number}.b2nd" for number in range(VOLUMES)]
        start_s = time.perf_counter()
        for path in paths:
            write_atomic(path, content)
        written_s = time.perf_counter() - start_s
        for path in paths:
            drop_cached_pages(path)
        start_s = time.perf_counter()
        for path in paths:
            StoredVolume(path).read((0, 0, 0), stored.shape)
        read_s = time.perf_counter() - start_s
    megabytes = VOLUMES * len(content) / 1e6
    values = {
        "write_mb_per_s": megabytes / written_s,
        "read_mb_per_s": megabytes / read_s,
        "write_volumes_per_s": VOLUMES / written_s,
        "read_volumes_per_s": VOLUMES / read_s,
        "shape": list(stored.shape),
        "volume_bytes": len(content),
    }
    size = "x".join(map(str, stored.shape))
    found = (
        f"writes {megabytes / written_s:.0f} MB/s ({VOLUMES / written_s:.1f} volumes/s), reads "
        f"{megabytes / read_s:.0f} MB/s ({VOLUMES / read_s:.1f} volumes/s) of {size} voxels on one core"
    )
    slow = "steps on a GPU will wait for data: --set cache.dir=FOLDER on a local disk"
    return graded("cache throughput", found, values, VOLUMES / read_s, (SLOW_VOLUMES_PER_S, "warning", slow))


Loaded = dict[str, list[Check]]
"""Checks by what was looked at: libraries, extras, processor, GPU."""
# Without -P a file of the current folder could be taken for a library.
COMMAND = (sys.executable, "-P", "-c", "from voco_cli.resources.doctor import main; main()")
FIRST = "libraries"


def load_here() -> Loaded:
    """Load every library, and ask for cores and GPUs."""
    return {
        FIRST: list(all_looked_at(FIRST, libraries)),
        "extras": list(all_looked_at("extras", extras)),
        "processor": [looked_at("processor", cores)],
        "GPU": list(all_looked_at("GPU", gpus)),
    }


def load_apart() -> Loaded:
    """Do the same in a process of its own; where that does not come to an end, this is the only check."""
    ended = subprocess.run(COMMAND, capture_output=True, text=True, errors="replace", check=False)
    told = next((line for line in reversed(ended.stdout.splitlines()) if line.startswith(f'{{"{FIRST}"')), None)
    if told is None:
        return {FIRST: [_died(ended.returncode, ended.stderr)]}
    return {name: [Check(**check) for check in checks] for name, checks in json.loads(told).items()}


def main() -> None:
    """Print what `load_here` finds as a line of JSON, in the process that `load_apart` starts."""
    print(json.dumps({name: [asdict(check) for check in checks] for name, checks in load_here().items()}))


def _died(code: int, said: str) -> Check:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = (said.strip().splitlines() or ["without a word"])[-1]
    names = ", ".join(REQUIRED)
    return Check(
        FIRST,
        "problem",
        f"a process that loads them ends with {how} ({last})",
        f"python -X faulthandler -c 'import {names}' names the one that is broken; install it again",
    )


def examine(data: Path | None = None, load: Callable[[], Loaded] = load_apart) -> Iterator[Check]:
    """Yield all checks; one that cannot be done becomes a line, and the rest goes on.

    Args:
        data: data.json whose cache is meant, or a folder to keep a cache in; none is the current folder.
        load: how libraries and devices are looked at.
    """
    yield looked_at("program", program)
    loaded = load()
    yield from (*loaded["libraries"], *loaded.get("extras", ()))
    settings, told = _settings()
    yield from told
    yield from loaded.get("processor", ())
    yield looked_at("memory", memory)
    yield from loaded.get("GPU", ())
    yield looked_at("shared memory", lambda: shared_memory(settings))
    yield looked_at("open files", open_files)
    yield looked_at("allocator", lambda: allocator(settings))
    if data is not None:
        yield looked_at("data", lambda: _data(data), failing="problem")
    cache = _cache_folder(settings, data)
    places = [looked_at("cache folder", lambda: room("cache folder", cache), failing="problem")]
    places += [looked_at("run folder", lambda: room("run folder", settings.run.dir), failing="problem")]
    yield from places
    if places[0].status != "problem":
        yield looked_at("cache throughput", lambda: throughput(cache))


def _settings() -> tuple[Settings, list[Check]]:
    """Return the settings of a run without options; where the environment spoils them, the defaults and why."""
    try:
        return load_settings().settings, []
    except VocoError as error:
        return Settings(), [
            Check("settings", "problem", error.message, "correct the variables VOCO_* of the environment")
        ]


def _cache_folder(settings: Settings, data: Path | None) -> Path:
    """Return the folder as `cache_folder` has it, which a broken library must not keep from being known."""
    beside = Path() if data is None else data if data.is_dir() else data.parent
    return settings.cache.dir or beside.resolve() / ".voco-cache"


def _data(data: Path) -> Check:
    """Look how many scans a list has, and whether they are there."""
    if data.is_dir():
        return Check("data", "ok", f"{data} is a folder; voco index {data} lists its scans")
    from voco_cli.data.index.datalist_file import read_datalist

    datalist = read_datalist(data)
    counts = {split: len(getattr(datalist, split)) for split in ("training", "validation", "test")}
    found = f"{data}: {counts['training']} scans to train on, {counts['validation']} held out; all are there"
    if not counts["training"]:
        return Check("data", "problem", f"{data} lists no scan to train on", "voco index FOLDER", counts)
    if not counts["validation"]:
        advice = "voco index --validation 0.1 holds some out, or nothing says whether a training learned"
        return Check("data", "warning", found, advice, counts)
    return Check("data", "ok", found, values=counts)
