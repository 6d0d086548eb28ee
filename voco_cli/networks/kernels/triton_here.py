"""Triton where it is installed; torch for CPUs comes without, and modules of kernels must import there too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["is_available", "kernel", "on_gpu", "tl", "triton"]

try:
    import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]

    _jit: Callable[..., Any] | None = triton.jit
except ImportError:
    triton, tl, _jit = None, None, None


def is_available() -> bool:
    """Whether Triton is here, in a version that takes tuples."""
    return triton is not None and tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 3)


def on_gpu(tensor: Tensor) -> bool:
    """Whether kernels compute with it."""
    return tensor.is_cuda


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``triton.jit``, or what leaves the function as it is where nothing could run it."""
    if function is None:
        return lambda later: kernel(later, **options)
    return function if _jit is None else _jit(function, **options)
