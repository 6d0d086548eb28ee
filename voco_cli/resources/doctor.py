"""Checks of this machine, in the order in which one would mend what is wrong."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import ModuleType

from voco_cli import __version__
from voco_cli.config import Settings, load_settings
from voco_cli.data.io.scratch import scratch
from voco_cli.errors import VocoError
from voco_cli.object_stores import is_remote
from voco_cli.operating_system import drop_cached_pages
from voco_cli.resources.machine import (
    LEAST_BYTES,
    Check,
    allocator,
    cores,
    existing_parent,
    gpus,
    graded,
    memory,
    mount_point,
    open_files,
    run_checks,
    shared_memory,
    temporary_folder,
)

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
    "s3fs": ("s3", "files at s3:// and https://"),
    "pyarrow": ("parquet", "tables of embeddings as Parquet"),
    "submitit": ("cluster", "jobs of SLURM"),
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
    """Check whether a folder, which need not exist yet, can be written to, and how much is free there."""
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
"""Checks by what was checked: libraries, extras, processor, GPU."""
# Without -P a file of the current folder could be taken for a library.
COMMAND = (sys.executable, "-P", "-c", "from voco_cli.resources.doctor import main; main()")
FIRST = "libraries"


def load_here() -> Loaded:
    """Load every library, and ask for cores and GPUs."""
    return {
        name: list(run_checks(name, check))
        for name, check in ((FIRST, libraries), ("extras", extras), ("processor", cores), ("GPU", gpus))
    }


def load_in_subprocess() -> Loaded:
    """Do the same in a process of its own; where that does not come to an end, this is the only check."""
    ended = subprocess.run(COMMAND, capture_output=True, text=True, errors="replace", check=False)
    found = next((line for line in reversed(ended.stdout.splitlines()) if line.startswith(f'{{"{FIRST}"')), None)
    if found is None:
        return {FIRST: [_died(ended.returncode, ended.stderr)]}
    return {name: [Check(**check) for check in checks] for name, checks in json.loads(found).items()}


def main() -> None:
    """Print what `load_here` finds as a line of JSON, in the process that `load_in_subprocess` starts."""
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


def examine(data: Path | None = None, load: Callable[[], Loaded] = load_in_subprocess) -> Iterator[Check]:
    """Yield all checks; one that cannot be done becomes a line, and the rest goes on.

    Args:
        data: data.json whose cache is meant, or a folder to keep a cache in; none is the current folder.
        load: checks libraries and devices.
    """
    yield from run_checks("program", program)
    loaded = load()
    yield from (*loaded[FIRST], *loaded.get("extras", ()))
    settings, faults = _settings()
    yield from faults
    yield from loaded.get("processor", ())
    yield from run_checks("memory", memory)
    yield from loaded.get("GPU", ())
    yield from run_checks("shared memory", shared_memory, settings)
    yield from run_checks("open files", open_files)
    yield from run_checks("allocator", allocator, settings)
    if data is not None:
        yield from run_checks("data", _data, data, failing="problem")
    cache = _cache_folder(settings, data)
    if is_remote(cache):
        copies = scratch().folder
        found = f"{cache} is in an object store; what is checked is where local copies go"
        yield Check("cache", "ok", found, "--set data.scratch_dir=FOLDER chooses another", {"copies": str(copies)})
        cache = copies
    (of_cache,) = run_checks("cache folder", room, "cache folder", cache, failing="problem")
    yield of_cache
    yield from run_checks("run folder", room, "run folder", settings.run.dir, failing="problem")
    if of_cache.status != "problem":
        yield from run_checks("cache throughput", throughput, cache)


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
    """Count the scans of a list, which must be there."""
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
