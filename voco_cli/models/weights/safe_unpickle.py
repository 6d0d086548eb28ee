"""Files of torch.save, read without ever running code that they name.

Only tensors, plain containers and the names below are built. Stand-ins take the place of the classes that files name:
they hold what the file says and do nothing.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voco_cli.errors import DataError, UsageError
from voco_cli.models.weights.container import GET_AGAIN, unpacked

TRUST_HINT = (
    "if you trust whoever made the file: --trust-pickle reads it, and runs any code in it with all your rights "
    "(DANGEROUS)"
)
MOST_NAMED, LONGEST_NAME, LONGEST_REASON = 8, 80, 120
"""Of what a hostile file makes us say."""
NUMBER_FORMATS = frozenset(
    f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items() for size in sizes
)


class InertObject:
    """Holds the state of an object of a class that we do not import, such as a pickled optimizer or a path."""

    def __init__(self, *_arguments: Any) -> None:
        """Take whatever the real class would, and keep nothing of it."""

    def __setstate__(self, state: Any) -> None:
        """Keep attributes; the states of arrays and dates are passed over."""
        if isinstance(state, dict):
            self.__dict__.update(state)


def empty_dict(*_factory: Any) -> dict[Any, Any]:
    """Return a dictionary in place of one with a factory for missing keys; the factory is never kept."""
    return {}


class NumberFormat:
    """In place of numpy.dtype: only its name, such as ``f8``."""

    def __init__(self, name: Any = "", *_rest: Any) -> None:
        self.name = name if isinstance(name, str) else ""

    def __setstate__(self, state: Any) -> None:
        """Forget the byte order, which is little-endian on every machine that wrote such a file."""


def read_number(number_format: Any, content: Any = b"") -> float | int:
    """Read one number from its bytes, in place of numpy's scalar."""
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    name = number_format.name if isinstance(number_format, NumberFormat) else ""
    if name not in NUMBER_FORMATS or len(raw) != int(name[1]):
        raise pickle.UnpicklingError(f"numpy scalar of format {name!r} is no plain number")
    number: float | int = np.frombuffer(raw, dtype=f"<{name}")[0].item()
    return number


_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_OMEGACONF = (
    *("dictconfig.DictConfig", "listconfig.ListConfig", "base.Metadata", "base.ContainerMetadata"),
    *(f"nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean")),
)
_SETTINGS = (
    *("argparse.Namespace", "types.SimpleNamespace"),
    *(f"pathlib.{name}" for name in _PATHS),
    *(f"pathlib._local.{name}" for name in _PATHS),  # as Python 3.13 writes them
    *("datetime.datetime", "datetime.date", "datetime.timedelta"),
    *(f"omegaconf.{name}" for name in _OMEGACONF),
    *("typing.Any", "ml_collections.config_dict.config_dict.ConfigDict"),
)
"""Classes in which trainers keep their hyper-parameters."""
_SETTINGS_DICTS = (
    *("easydict.EasyDict", "yacs.config.CfgNode", "addict.addict.Dict"),
    *(f"{place}.utilities.data.AttributeDict" for place in ("lightning.fabric", "lightning_fabric")),
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Those of them that are dictionaries."""
_OPTIMIZERS = ("torch.optim.adamw.AdamW", "torch.optim.adam.Adam", "torch.optim.sgd.SGD")
"""CVPR checkpoints hold the optimizer itself."""
_ARRAYS = ("numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
"""States of random generators and learning curves."""

ALLOWED: list[Any] = [
    *((InertObject, name) for name in (*_SETTINGS, *_OPTIMIZERS, *_ARRAYS)),
    *((OrderedDict, name) for name in _SETTINGS_DICTS),
    (empty_dict, "collections.defaultdict"),  # an optimizer's state
    (dict, "builtins.dict"),  # the factory of that
    (list, "builtins.list"),
    (tuple, "builtins.tuple"),
    (set, "builtins.set"),
    (frozenset, "builtins.frozenset"),
    (NumberFormat, "numpy.dtype"),  # best_acc of fine-tuned files
    (read_number, "numpy._core.multiarray.scalar"),
    (read_number, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
]
"""Stand-ins for what files really name; nothing else is taken."""

_UNREADABLE = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, struct.error),
    *(ImportError, AssertionError, MemoryError, RecursionError, OverflowError, NameError, SystemError),
)
"""What torch raises over a damaged file."""


def read_torch_file(path: Path, trust_pickle: bool = False) -> Any:
    """Read what torch.save wrote; a file of gzip is unpacked in memory.

    Args:
        path: a file whose form `container_of` has looked at.
        trust_pickle: read with Python's own unpickler, which runs whatever code the file names.
    Raises:
        UsageError: the file names classes or functions that are not allowed; they are listed.
        DataError: the file is no checkpoint, damaged, or a bomb.
    """
    content = unpacked(path)
    if path.suffix.lower() == ".safetensors":
        content = io.BytesIO(path.read_bytes())  # torch goes by the name, which is wrong here
    # Files of other pickle protocols make torch warn, and read all the same.
    with warnings.catch_warnings(), torch.serialization.safe_globals(ALLOWED):
        warnings.simplefilter("ignore")
        try:
            mmap = not trust_pickle and isinstance(content, Path) and zipfile.is_zipfile(content)
            return torch.load(content, map_location="cpu", weights_only=not trust_pickle, mmap=mmap)
        except pickle.UnpicklingError as error:
            names = _foreign_names(content, str(error))
            if names and not trust_pickle:
                raise UsageError(f"{path} names code that is not run here: {_listed(names)}.", TRUST_HINT) from error
            raise _unreadable(path, error) from error
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error


def _foreign_names(content: Path | io.BytesIO, message: str) -> list[str]:
    """List the names that are not allowed: all of them where the file lists them, else the one of the message."""
    if isinstance(content, io.BytesIO):
        content.seek(0)
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(content))
    except (pickle.UnpicklingError, *_UNREADABLE):
        return re.findall(r"GLOBAL ([\w.]+)", message)[:1]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(name[:LONGEST_NAME] for name in names[:MOST_NAMED])}{more}"


def _unreadable(path: Path, error: Exception) -> DataError:
    said = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    first_line = (said.strip() or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
    return DataError(f"{path} is no file of weights, or is damaged ({first_line[:LONGEST_REASON]}).", GET_AGAIN)
