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


def test_blocks_are_used_again() -> None:
    if not keep_freed_memory():
        pytest.skip("not glibc")
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("plain", "keep")
    )
    assert kept < plain / 10, (kept, plain)
