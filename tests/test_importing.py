"""Large libraries are imported when they are needed, and without Python's cycle collector."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import recbole_lcrec
from recbole_lcrec import config, recommending
from recbole_lcrec.utils.importing import importing

PROGRAM = """
import sys, numpy as np
from recbole_lcrec.utils.importing import import_metrics
import_metrics()
from recbole.evaluator import metrics
assert not [name for name in sys.modules if name.startswith("sklearn")], "imported already"
assert metrics.mean_squared_error([1.0, 2.0], [1.0, 4.0]) == 2.0
assert metrics.sk_auc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
import sklearn.metrics
assert sklearn.__file__ and metrics.mean_absolute_error([1.0], [3.0]) == 2.0
"""


def test_recboles_metrics_import_scikit_learn_when_one_needs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr


def test_packages_have_the_names_that_they_import_late() -> None:
    late = [recbole_lcrec, config, recommending]
    assert all(getattr(package, name) is not None for package in late for name in package.__all__)


def test_nothing_is_collected_while_importing_and_then_it_goes_on() -> None:
    with importing():
        assert not gc.isenabled()
        with importing():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
