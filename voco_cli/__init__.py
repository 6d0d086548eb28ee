"""Pre-train encoders of 3-D medical images on scans without labels, and find out whether that helped.

The functions behind the commands can be taken from here, `from voco_cli import read_scan`; each is imported when it is
asked for, so that `import voco_cli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voco_cli.config import Settings, load_settings
    from voco_cli.data.cache.preprocess import preprocess
    from voco_cli.data.cache.store import VolumeCache
    from voco_cli.data.index.build import IndexOptions, build_index
    from voco_cli.data.index.datalist_file import read_datalist, write_datalist
    from voco_cli.data.io.reader import read_scan
    from voco_cli.data.synthetic import generate_ct, write_cts
    from voco_cli.errors import VocoError
    from voco_cli.evaluate.segmentation.metrics import Structure, measure_case
    from voco_cli.models.build import build_encoder
    from voco_cli.models.weights import export_weights, load_into, read_weights
    from voco_cli.objectives.voco.crops import draw_crops, position_labels
    from voco_cli.objectives.voco.model import VolumeContrast
    from voco_cli.training.callbacks import Callback
    from voco_cli.workflows.finetune import run_finetuning
    from voco_cli.workflows.pretrain import run_pretraining

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "IndexOptions",
    "Settings",
    "Structure",
    "VocoError",
    "VolumeCache",
    "VolumeContrast",
    "__version__",
    "build_encoder",
    "build_index",
    "draw_crops",
    "export_weights",
    "generate_ct",
    "load_into",
    "load_settings",
    "measure_case",
    "position_labels",
    "preprocess",
    "read_datalist",
    "read_scan",
    "read_weights",
    "run_finetuning",
    "run_pretraining",
    "write_cts",
    "write_datalist",
]

_MODULES = {
    "config": ("Settings", "load_settings"),
    "data.cache.preprocess": ("preprocess",),
    "data.cache.store": ("VolumeCache",),
    "data.index.build": ("IndexOptions", "build_index"),
    "data.index.datalist_file": ("read_datalist", "write_datalist"),
    "data.io.reader": ("read_scan",),
    "data.synthetic": ("generate_ct", "write_cts"),
    "errors": ("VocoError",),
    "evaluate.segmentation.metrics": ("Structure", "measure_case"),
    "models.build": ("build_encoder",),
    "models.weights": ("export_weights", "load_into", "read_weights"),
    "objectives.voco.crops": ("draw_crops", "position_labels"),
    "objectives.voco.model": ("VolumeContrast",),
    "training.callbacks": ("Callback",),
    "workflows.finetune": ("run_finetuning",),
    "workflows.pretrain": ("run_pretraining",),
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
