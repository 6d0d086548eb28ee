"""Keep freed memory inside the process: glibc hands every tensor above 32 MB back to the kernel otherwise.

Fetching and clearing those pages anew in each step takes longer than many of the operations on them.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc never to map single allocations and never to trim the heap; elsewhere nothing happens.

    Returns:
        whether the allocator took it.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1 for option, value in settings)
