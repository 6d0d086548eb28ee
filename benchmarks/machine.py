"""What a measurement depends on: processor, memory, versions, and how busy the machine is."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from voco_cli.operating_system import usable_cores

PACKAGES = (
    "torch",
    "monai",
    "numpy",
    "scipy",
    "SimpleITK",
    "blosc2",
    "isal",
    "accelerate",
    "nibabel",
    "surface-distance",
)


def cpu_model() -> str:
    """The processor's name, as Linux knows it."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    named = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def slug(model: str, cores: int) -> str:
    """A folder name from a processor's name and the cores that are to be had: nothing that names a host."""
    words = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*$", " ", model.lower())
    return "-".join([*re.findall(r"[a-z0-9]+", words), f"{cores}-cores"])


def machine() -> dict[str, Any]:
    """The machine and its versions, for the head of a result."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def load_per_core() -> float:
    """Processes that want a core, over the cores: above 0.5 somebody else is at work."""
    return os.getloadavg()[0] / usable_cores()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
