"""The two states of the allocator that a CPU benchmark needs in one process, in turns."""

from __future__ import annotations

import ctypes
import platform

from voco_cli.operating_system import M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, keep_freed_memory

M_MMAP_THRESHOLD = -3  # malloc.h
LARGEST_THRESHOLD = 32 << 20
"""Where glibc's own threshold ends up after a few large tensors; single allocations above it are mapped anew."""


def as_glibc_does() -> bool:
    """Back to what glibc settles at by itself, and all free memory back to the system.

    Returns:
        whether the allocator took it; without glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    own = (
        (M_MMAP_MAX, 65536),
        (M_MMAP_THRESHOLD, LARGEST_THRESHOLD),
        (M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD),
        (M_TOP_PAD, 128 << 10),
    )
    taken = all(libc.mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1 for option, value in own)
    libc.malloc_trim(ctypes.c_size_t(0))
    return taken


def warm() -> bool:
    """Freed memory is kept, as our runs have it."""
    return keep_freed_memory()
