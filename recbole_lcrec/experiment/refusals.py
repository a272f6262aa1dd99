"""What RecBole raises about a user's options and data, as errors that the user can fix."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.utils.errors import UserError

logger = logging.getLogger(__name__)

_REFUSALS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError)


@contextmanager
def refusals_of_recbole(what: str) -> Iterator[None]:
    """Turn what RecBole's own code raises about options or data into UserError; errors of our code pass.

    RecBole checks values where it uses them, with any type of exception (``NotImplementedError`` for a wrong
    ``loss_type``, ``assert``, a shape mismatch in torch), so where an exception was raised says more than its type.

    Args:
        what: What RecBole is working on, for the message ("model SASRec").

    Raises:
        UserError: With RecBole's own words.
    """
    try:
        yield
    except _REFUSALS as error:
        theirs, ours = str(recbole_dir()), str(Path(__file__).parents[1])
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        known = [name for name in frames if name.startswith((f"{theirs}{os.sep}", f"{ours}{os.sep}"))]
        passes = isinstance(error, FloatingPointError) or type(error).__name__ == "OutOfMemoryError"
        if passes or not known or not known[-1].startswith(theirs + os.sep):
            raise
        logger.debug("RecBole's error", exc_info=True)
        said = " ".join(str(error).split()) or "no reason given"
        raise UserError(
            f"{what}: RecBole cannot go on with these options and data ({type(error).__name__} in "
            f"{Path(known[-1]).name}: {said}). Change the option in question; --help and the model's YAML in "
            "RecBole explain the options."
        ) from error
