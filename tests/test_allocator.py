"""Freed memory stays with the process, so that the next step does not fetch it page by page."""

import subprocess
import sys

import pytest

from recbole_lcrec.utils.allocator import keep_freed_memory

COUNT = """
import resource, sys
from recbole_lcrec.utils.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    np.ones(8_000_000)  # 64 MB
before = faults()
for _ in range(5):
    np.ones(8_000_000)
print(faults() - before)
"""


GAPS = """
import os, sys
from recbole_lcrec.utils import allocator
assert allocator.keep_freed_memory()
import numpy as np
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000
blocks = [np.ones(125_000) for _ in range(400)]  # 1 MB each
del blocks[::2]
full = resident()
allocator.give_back_gaps()
early = resident()
allocator.BETWEEN_TRIMS = 0.0
allocator.give_back_gaps()
print(full - early, full - resident())
"""


def test_gaps_are_given_back_after_a_while() -> None:
    if not keep_freed_memory():
        pytest.skip("not glibc")
    found = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True).stdout
    early, late = map(int, found.split())
    assert early < 20 and late > 150, "half of 400 MB"


def test_blocks_are_used_again() -> None:
    if not keep_freed_memory():
        pytest.skip("not glibc")
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("plain", "keep")
    )
    assert kept < plain / 10, (kept, plain)
