"""Ray's scheduler for pbt, in generations. Importing this imports Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining


class Generations(PopulationBasedTraining):
    """All trials wait for each other, then the poor ones are replaced: speed does not matter.

    Two things are added to Ray's: nothing is replaced after the last epoch, and a generation does not wait forever
    for a trial that ended.

    Args:
        every: Epochs between generations.
        epochs: Epochs of a trial.
        explore: Changes a configuration.
        mode: "max" or "min".
        done: Epochs that every trial has completed when it starts (continues from a checkpoint).
    """

    def __init__(
        self, every: int, epochs: int, explore: Callable[[dict[str, Any]], dict[str, Any]], *, mode: str, done: int
    ) -> None:
        super().__init__(
            time_attr="epoch", metric="score", mode=mode, perturbation_interval=every, burn_in_period=done + every,
            custom_explore_fn=explore, log_config=False, require_attrs=False, synch=True,
        )  # fmt: skip
        self.epochs = epochs

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Let a trial that has done its last epoch end by itself."""
        if result.get("epoch", 0) >= self.epochs:
            return self.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the next trial to run.

        Ray counts a generation as complete when its last report comes in. If the last trial ended instead, all others
        wait: then one of their reports is repeated.
        """
        chosen = super().choose_trial_to_run(tune_controller)
        waiting = tune_controller.get_live_trials()
        if chosen is None and waiting and all(trial.status == Trial.PAUSED for trial in waiting):
            first = min(waiting, key=str)
            self.on_trial_result(tune_controller, first, first.last_result)
            chosen = super().choose_trial_to_run(tune_controller)
        return chosen
