"""Memory: a review file is streamed, so its texts never add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from raw_files import old_review

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import resource, sys
from recbole_lcrec.convert.__main__ import main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert main(sys.argv[1:]) == 0
print("KiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_texts_are_never_held_together(tmp_path: Path) -> None:
    text, count = "words " * 600, 150_000
    with (tmp_path / "r.json").open("w", encoding="utf-8") as file:
        for n in range(count):
            file.write(json.dumps(old_review(f"A{n % 40_000}", f"B{n % 9_000}", n, text=text)) + "\n")
    assert (tmp_path / "r.json").stat().st_size > 500 << 20
    arguments = ["amazon2018", "r.json", "--meta=none", "--name=x", "--no-progress", "--reviews"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("KiB")[-1]) < 150 << 10, done.stdout
