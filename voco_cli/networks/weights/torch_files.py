"""Files of torch.save, read without ever running code that they name.

Only tensors, plain containers and the few names below are built. Stand-ins take the place of the classes that the
authors' files name: they hold what the file says and do nothing.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voco_cli.errors import DataError, UsageError

TRUST_HINT = (
    "if you trust whoever made the file: --trust-pickle reads it, and runs any code in it with all your rights "
    "(DANGEROUS)"
)
NUMBER_FORMATS = frozenset(
    f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items() for size in sizes
)


class InertObject:
    """Holds the state of an object of a class that we do not import, such as a pickled optimizer."""


def empty_dict(*_factory: Any) -> dict[Any, Any]:
    """In place of a dictionary with a factory for missing keys; the factory is never kept."""
    return {}


class NumberFormat:
    """In place of numpy.dtype: only its name, such as ``f8``."""

    def __init__(self, name: Any = "", *_rest: Any) -> None:
        self.name = name if isinstance(name, str) else ""

    def __setstate__(self, state: Any) -> None:
        """Forget the byte order, which is little-endian on every machine that wrote such a file."""


def read_number(number_format: Any, content: Any = b"") -> float | int:
    """In place of numpy's scalar: one number from its bytes."""
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    name = number_format.name if isinstance(number_format, NumberFormat) else ""
    if name not in NUMBER_FORMATS or len(raw) != int(name[1]):
        raise pickle.UnpicklingError(f"numpy scalar of format {name!r} is no plain number")
    number: float | int = np.frombuffer(raw, dtype=f"<{name}")[0].item()
    return number


ALLOWED: list[Any] = [
    (InertObject, "torch.optim.adamw.AdamW"),  # CVPR checkpoints hold the optimizer itself
    (empty_dict, "collections.defaultdict"),  # its state
    (dict, "builtins.dict"),  # the factory of that
    (NumberFormat, "numpy.dtype"),  # best_acc of fine-tuned files
    (read_number, "numpy._core.multiarray.scalar"),
    (read_number, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
]
"""Stand-ins for what the authors' files really name; nothing else is taken."""


def read_torch_file(path: Path, trust_pickle: bool = False) -> Any:
    """Read what torch.save wrote; a name in .gz is unpacked in memory.

    Args:
        trust_pickle: read with Python's own unpickler, which runs whatever code the file names.
    Raises:
        UsageError: the file names classes or functions that are not allowed; they are listed.
        DataError: the file is no checkpoint, or damaged.
    """
    stream = _opened(path)
    # Files of other pickle protocols make torch warn, and read all the same.
    with warnings.catch_warnings(), torch.serialization.safe_globals(ALLOWED):
        warnings.simplefilter("ignore")
        try:
            mmap = not trust_pickle and isinstance(stream, Path) and zipfile.is_zipfile(stream)
            return torch.load(stream, map_location="cpu", weights_only=not trust_pickle, mmap=mmap)
        except pickle.UnpicklingError as error:
            names = _foreign_names(path, str(error))
            if names and not trust_pickle:
                raise UsageError(f"{path} names code that is not run here: {', '.join(names)}.", TRUST_HINT) from error
            raise _unreadable(path, error) from error
        except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
            raise _unreadable(path, error) from error
        except (ImportError, AssertionError) as error:
            raise _unreadable(path, error) from error


def _opened(path: Path) -> Path | io.BytesIO:
    if path.suffix != ".gz":
        return path
    try:
        return io.BytesIO(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _foreign_names(path: Path, message: str) -> list[str]:
    """Names outside the allowed ones: all of them where the file lists them, else the one of the message."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(_opened(path)))
    except (ValueError, RuntimeError, pickle.UnpicklingError, EOFError):
        return re.findall(r"GLOBAL ([\w.]+)", message)[:1]


def _unreadable(path: Path, error: Exception) -> DataError:
    said = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    first_line = (said.strip() or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
    return DataError(
        f"{path} is not a checkpoint, or is damaged ({first_line}).", "give a run folder, .safetensors or a torch file"
    )
