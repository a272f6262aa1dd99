"""What a training reports while it runs: lines of the log, the learning curve, and the values for the loggers.

RecBole's loops log a sum of losses and print every metric twice; they are run silently, and these are the lines
instead. Epochs are counted from 1, as people count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.training.curve import LearningCurve
from recbole_lcrec.training.loggers import Loggers
from recbole_lcrec.utils.timer import in_words

logger = logging.getLogger(__name__)


class Chronicle:
    """The course of one training, as it is reported.

    Args:
        config: The experiment's configuration.
        folder: The run's folder.

    Attributes:
        curve: For result.json.
        loggers: What ``logger`` names.
    """

    def __init__(self, config: Any, folder: Path) -> None:
        self._run = RunOptions(config)
        self.curve = LearningCurve()
        self.loggers = Loggers(config, folder)
        self._since = self._start = time.perf_counter()
        self._training: list[float] = []
        self._validating: list[float] = []
        self._validates, self._is_partial = True, False
        self._epoch = self._epochs = self._before = 0

    def start(self, epochs_done: int = 0, *, validates: bool = True, within_epoch: bool = False) -> None:
        """Begin.

        Args:
            epochs_done: Epochs that an interrupted training had completed.
            validates: Whether epochs are validated.
            within_epoch: Whether a part of the first epoch was trained before an interruption, so that its time says
                nothing about the others.
        """
        self._since = self._start = time.perf_counter()
        self._epoch = self._before = epochs_done
        self._validates, self._is_partial = validates, within_epoch
        self.curve.start()

    def reached(self, epochs_done: int, epochs: int) -> None:
        """Note how many epochs are done, and how many there are at most."""
        self._epoch, self._epochs = epochs_done, epochs

    def trained(self, epoch: int, epochs: int, losses: Any, rate: float) -> None:
        """Report an epoch.

        Args:
            epoch: Its number, from 0.
            epochs: How many there are at most.
            losses: The mean loss of its steps: a number, or a tuple of parts that are summed.
            rate: The learning rate of its last step.
        """
        self.curve.trained(epoch, losses)
        self.reached(epoch + 1, epochs)
        seconds = self._lap()
        took = "" if self._is_partial else f" in {in_words(seconds)}"
        if not self._is_partial:
            self._training.append(seconds)
        self._is_partial = False
        parts = tuple(float(part) for part in losses) if isinstance(losses, tuple) else (float(losses),)
        values = {"loss": sum(parts), "learning_rate": rate}
        if len(parts) > 1:
            values |= {f"loss_{number}": part for number, part in enumerate(parts, start=1)}
        self.loggers.log("train", values, self._epoch)
        shown = f"{sum(parts):.{self._run.loss_decimal_place or 4}f}"
        logger.info("%s%s: training loss %s%s", self._place, self._left(), shown, took)

    def validated(self, result: Mapping[str, float], *, is_best: bool, best_epoch: int | None) -> None:
        """Report a validation after the latest epoch.

        Args:
            result: All its metrics.
            is_best: Whether it is the best so far.
            best_epoch: Number of the epoch, from 0, that was the best before; None for the first one.
        """
        self.curve.validated(dict(result))
        seconds = self._lap()
        self._validating.append(seconds)
        self.loggers.log("valid", result, self._epoch)
        best = "" if best_epoch is None else f"; the best is epoch {best_epoch + 1}"
        best = "; the best so far" if is_best else best
        logger.info("%s: validation %s in %s%s", self._place, self._metrics(result), in_words(seconds), best)

    def ended(self, best: Mapping[str, float] | None, *, best_epoch: int | None, bad_validations: int | None) -> None:
        """Report that the training is over.

        Args:
            best: Metrics of the best validation; None without validations.
            best_epoch: Number of its epoch, from 0.
            bad_validations: How many validations in a row were no better, if that ended it before the last epoch.
        """
        if best is not None:
            self.loggers.log("best_valid", best, self._epoch)
        if self._epoch == self._before:
            return
        took = in_words(time.perf_counter() - self._start)
        if bad_validations is None:
            told = f"Trained for {_counted(self._epoch, 'epoch')} in {took}."
        else:
            bad = f"{_counted(bad_validations, 'validation')} in a row without a better {self._run.valid_metric}"
            told = f"Stopped after {self._place} and {took}: {bad}."
        logger.info(
            "%s%s", told, "" if best is None or best_epoch is None else f" The best is epoch {best_epoch + 1}."
        )

    def tested(self, result: Mapping[str, float]) -> None:
        """Report the test to the loggers; the log ends with its table."""
        self.loggers.log("test", result, self._epoch)

    @property
    def _place(self) -> str:
        return f"epoch {self._epoch} of {self._epochs}"

    def _metrics(self, result: Mapping[str, float]) -> str:
        places = self._run.metric_decimal_place
        return ", ".join(f"{name} {value:.{places}f}" for name, value in result.items())

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._since = self._since, time.perf_counter()
        return self._since - before

    def _left(self) -> str:
        """Return how long the rest takes if no validation ends it early, to be put after the epoch's number."""
        left, every = self._epochs - self._epoch, self._run.eval_step
        validations = self._epochs // every - (self._epoch - 1) // every if self._validates and every > 0 else 0
        if not left or not self._training:
            return ""
        seconds = left * _mean(self._training)
        if validations and self._validating:
            seconds += validations * _mean(self._validating)
        without = " without the validations" if validations and not self._validating else ""
        return f", about {in_words(seconds)} left{without}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
