"""Freed memory is kept for the next step instead of being given back to the system and fetched anew.

glibc hands large blocks back as soon as they are freed, so that every training step asks the system for the same pages
again: a third of SASRec's time on a CPU. What is kept has a price where blocks are of many sizes: gaps remain that no
later block fits into, and a language model's training on texts of 50 to 250 tokens grew to 10 GB where it needs 3.5.
So the gaps are given back every 20 s, which takes .2 s. Other C libraries have no such switches and are left as
they are.
"""

from __future__ import annotations

import ctypes
import sys
import time

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's malloc.h."""

KEPT = 1 << 30
"""Bytes that may lie unused at the end of the heap, and the size from which a block is mapped on its own."""

BETWEEN_TRIMS = 20.0
"""Seconds after which gaps are given back."""


class _Heap:
    """What this process has asked of its allocator."""

    keeps = False
    trimmed_at = 0.0


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether there was one to tell."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    _Heap.keeps = bool(mallopt(M_MMAP_THRESHOLD, KEPT)) & bool(mallopt(M_TRIM_THRESHOLD, KEPT))
    _Heap.trimmed_at = time.monotonic()
    return _Heap.keeps


def give_back_gaps() -> None:
    """Give back what lies unused between blocks, if freed memory is kept and it is time again. Call it often."""
    if _Heap.keeps and time.monotonic() - _Heap.trimmed_at > BETWEEN_TRIMS:
        ctypes.CDLL(None).malloc_trim(0)
        _Heap.trimmed_at = time.monotonic()
