"""Weights: ours and other people's in, the right network and a report out, and export to other programs.

Each name is loaded when it is asked for, so that finding a file of weights needs no tensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voco_cli.models.weights.architecture import (
        infer_architecture,
        patch_merging_of,
        set_patch_merging,
    )
    from voco_cli.models.weights.container import Format
    from voco_cli.models.weights.export import Export, export_weights
    from voco_cli.models.weights.load import MIN_LOADED, LoadReport, LoadStatus, OtherNetwork, TensorStatus, load_into
    from voco_cli.models.weights.read import Kind, Weights, read_weights
    from voco_cli.models.weights.write import own_tensors, put_tensors, write_encoder, write_model

__all__ = [
    "MIN_LOADED",
    "Export",
    "Format",
    "Kind",
    "LoadReport",
    "LoadStatus",
    "OtherNetwork",
    "TensorStatus",
    "Weights",
    "export_weights",
    "infer_architecture",
    "load_into",
    "own_tensors",
    "patch_merging_of",
    "put_tensors",
    "read_weights",
    "set_patch_merging",
    "write_encoder",
    "write_model",
]

_HOMES = {
    "architecture": ("infer_architecture", "patch_merging_of", "set_patch_merging"),
    "container": ("Format",),
    "export": ("Export", "export_weights"),
    "load": ("MIN_LOADED", "LoadStatus", "LoadReport", "OtherNetwork", "TensorStatus", "load_into"),
    "read": ("Kind", "Weights", "read_weights"),
    "write": ("own_tensors", "put_tensors", "write_encoder", "write_model"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
