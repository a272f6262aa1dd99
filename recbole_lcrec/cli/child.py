"""A single run of a comparison: the ordinary command line, in a process that ends when the comparison's does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from recbole_lcrec.cli.main import main

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ask Linux for SIGTERM when the comparison dies, even by SIGKILL: an orphan would write alongside its successor.

    Args:
        parent: The comparison's process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before our request
        sys.exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
