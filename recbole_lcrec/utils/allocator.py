"""Freed memory is kept for the next step instead of being given back to the system and fetched anew.

glibc hands large blocks back as soon as they are freed, so that every training step asks the system for the same pages
again: a third of SASRec's time on a CPU. Other C libraries have no such switch and are left as they are.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's malloc.h."""

KEPT = 1 << 30
"""Bytes that may lie unused at the end of the heap, and the size from which a block is mapped on its own."""


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether there was one to tell."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT)) & bool(mallopt(M_TRIM_THRESHOLD, KEPT))
