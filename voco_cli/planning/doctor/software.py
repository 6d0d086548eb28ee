"""Versions, and whether what is installed can be imported."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

from voco_cli import __version__
from voco_cli.planning.doctor.check import Check

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
    """This program and its Python."""
    found = f"voco {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    values = {"voco": __version__, "python": platform.python_version(), "platform": platform.platform()}
    if sys.version_info[:2] < LEAST_PYTHON:
        return Check("program", "problem", found, "use Python 3.11 or newer", values)
    return Check("program", "ok", found, values=values)


def libraries() -> Iterator[Check]:
    """One line for all that can be imported, and one for each that cannot."""
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
    """What is there beyond what everyone needs."""
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
