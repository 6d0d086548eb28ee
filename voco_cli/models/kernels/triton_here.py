"""Triton where it is installed; torch for CPUs comes without, and modules of kernels must import there too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_available", "kernel", "missing", "on_gpu", "tl", "triton"]

try:
    import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]

    _jit: Callable[..., Any] | None = triton.jit
except ImportError:
    triton, tl, _jit = None, None, None

OLDEST = (3, 3)
"""The first version that takes tuples."""
OLDEST_CARD = (8, 0)
"""Compute capability of the first cards with bfloat16."""


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile by ``triton.jit``; without Triton, which nothing could run, leave the function as it is."""
    if function is None:
        return lambda later: kernel(later, **options)
    return function if _jit is None else _jit(function, **options)


def on_gpu(tensor: Tensor) -> bool:
    """Return True for a tensor that kernels compute with."""
    return tensor.is_cuda


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_available(device: int | None = None) -> bool:
    """Return True where kernels compile and run on the GPU of that number, or on the current one."""
    return missing(device) is None


@cache
def missing(device: int | None = None) -> str | None:
    """Try a kernel, and say in a few words why it cannot run on a GPU; None where it can."""
    if triton is None:
        return "Triton is not installed"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
        return f"Triton {triton.__version__} is too old"
    if torch.version.hip is not None:
        return "the kernels are written for NVIDIA's cards"
    if torch.cuda.is_available():
        if torch.cuda.get_device_capability(device) < OLDEST_CARD:
            return "the card is older than the kernels (compute capability 8.0)"
        try:
            with torch.cuda.device(device):
                place = torch.zeros(16, 16, device="cuda", dtype=torch.bfloat16)
                _try_out[(1,)](place)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # no C compiler, no headers of Python, an unknown card: MONAI's modules run anywhere
            return f"Triton fails: {str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error)}"
    return None


@kernel
def _try_out(place):  # type: ignore[no-untyped-def]
    places = place + tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    values = tl.load(places)
    tl.store(places, tl.dot(values, values).to(tl.bfloat16))
