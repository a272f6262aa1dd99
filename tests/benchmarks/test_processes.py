"""A process of its own hands over its result or its failure, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_lcrec.benchmarks.processes import in_a_process
from recbole_lcrec.utils.errors import UserError

SLOW_TO_END = """
import os, time
from multiprocessing import util
from recbole_lcrec.benchmarks.processes import in_a_process

def work(number):
    import tqdm
    list(tqdm.tqdm([], disable=True))  # makes a lock, which is a semaphore
    util.Finalize(None, time.sleep, args=(0.5,), exitpriority=100)
    return number + (os.getpid() != parent())

def parent():
    return int(os.environ["PARENT"])

if __name__ == "__main__":
    os.environ["PARENT"] = str(os.getpid())
    print(in_a_process(work, 41))
"""


def refuse(name: str) -> None:
    raise UserError(f"{name}: expected better")


def die(status: int) -> None:
    os._exit(status)


def test_a_process_that_is_slow_to_end_leaves_no_semaphore(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SLOW_TO_END)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_mistakes_of_the_user_come_through() -> None:
    with pytest.raises(UserError, match="size: expected better"):
        in_a_process(refuse, "size")


def test_a_process_that_dies_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="die ended without a result, exit status 7"):
        in_a_process(die, 7)
