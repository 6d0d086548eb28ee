"""Pre-train encoders of 3-D medical images on scans without labels, and find out whether that helped.

The functions behind the commands can be taken from here, `from voco_cli import read_scan`; each is imported when it is
asked for, so that `import voco_cli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voco_cli.cache.preprocess import preprocess
    from voco_cli.cache.store import VolumeCache
    from voco_cli.dataset.datalist_file import read_datalist, write_datalist
    from voco_cli.dataset.index import IndexOptions, build_index
    from voco_cli.engine.unwatched import Unwatched
    from voco_cli.errors import VocoError
    from voco_cli.evaluation.measures import Structure, measure_case
    from voco_cli.finetuning.run import finetune
    from voco_cli.method.draws import draw_crops
    from voco_cli.method.geometry import position_labels
    from voco_cli.method.objective import VolumeContrast
    from voco_cli.networks.encoders import build_encoder
    from voco_cli.networks.weights import export_weights, load_into, read_weights
    from voco_cli.phantom import generate_phantom, write_phantoms
    from voco_cli.pretraining.run import pretrain
    from voco_cli.scans.read import read_scan
    from voco_cli.settings import Settings, load_settings

__version__ = "0.1.0"
__all__ = [
    "IndexOptions",
    "Settings",
    "Structure",
    "Unwatched",
    "VocoError",
    "VolumeCache",
    "VolumeContrast",
    "__version__",
    "build_encoder",
    "build_index",
    "draw_crops",
    "export_weights",
    "finetune",
    "generate_phantom",
    "load_into",
    "load_settings",
    "measure_case",
    "position_labels",
    "preprocess",
    "pretrain",
    "read_datalist",
    "read_scan",
    "read_weights",
    "write_datalist",
    "write_phantoms",
]

_MODULES = {
    "cache.preprocess": ("preprocess",),
    "cache.store": ("VolumeCache",),
    "dataset.datalist_file": ("read_datalist", "write_datalist"),
    "dataset.index": ("IndexOptions", "build_index"),
    "engine.unwatched": ("Unwatched",),
    "errors": ("VocoError",),
    "evaluation.measures": ("Structure", "measure_case"),
    "finetuning.run": ("finetune",),
    "method.draws": ("draw_crops",),
    "method.geometry": ("position_labels",),
    "method.objective": ("VolumeContrast",),
    "networks.encoders": ("build_encoder",),
    "networks.weights": ("export_weights", "load_into", "read_weights"),
    "phantom": ("generate_phantom", "write_phantoms"),
    "pretraining.run": ("pretrain",),
    "scans.read": ("read_scan",),
    "settings": ("Settings", "load_settings"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
