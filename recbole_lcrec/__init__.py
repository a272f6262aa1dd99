"""LC-Rec and other generative recommenders inside RecBole.

The names below are imported when they are first used: ``import recbole_lcrec`` costs nothing and prints nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from recbole_lcrec.version import __version__

if TYPE_CHECKING:
    from recbole_lcrec.config.registry import register_converter, register_encoder, register_model, register_quantizer
    from recbole_lcrec.experiment import Experiment, build, load_experiment, run
    from recbole_lcrec.recommending import Recommender

if sys.version_info < (3, 11):  # pip refuses, too; this is for a checkout that is started without pip
    raise ImportError("recbole_lcrec needs Python 3.11 or newer; this is Python {}.{}".format(*sys.version_info))

__all__ = [
    "Experiment",
    "Recommender",
    "__version__",
    "build",
    "load_experiment",
    "register_converter",
    "register_encoder",
    "register_model",
    "register_quantizer",
    "run",
]


def __getattr__(name: str) -> Any:
    if name.startswith("register_") and name in __all__:
        from recbole_lcrec.config import registry

        return getattr(registry, name)
    if name in __all__:
        from recbole_lcrec.config.paths import recbole_dir

        recbole_dir()  # one clear message if RecBole is missing or too old, rather than the first import that fails
        from recbole_lcrec import experiment, recommending

        return getattr(recommending if name == "Recommender" else experiment, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
