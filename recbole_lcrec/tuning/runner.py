"""The trials of a search under Ray Tune: what is started, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lcrec.tuning.journal import CUT, OVER, RUNNING, Journal, TrialRecord
from recbole_lcrec.tuning.live import LiveTable
from recbole_lcrec.tuning.named_search import make_searcher
from recbole_lcrec.tuning.schedulers import make_scheduler, seed_ray
from recbole_lcrec.tuning.search_settings import SearchSettings
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.tuning.storage import ENGINE
from recbole_lcrec.tuning.trial import KEEP, TrialInputs, test_trial, train_trial
from recbole_lcrec.utils.files import atomic_path
from recbole_lcrec.utils.run_files import RANKS


class TrialRunner:
    """Runs what the journal says is left to run.

    Args:
        ray: The module, connected.
        inputs: What all trials share.
        settings: Options of the search.
        space: What is varied.
        journal: Gets every event.
        table: Shows them.
        session: Number of times that the search was started; Ray's folder has it in its name.
    """

    def __init__(
        self, ray: Any, inputs: TrialInputs, settings: SearchSettings, space: Space, journal: Journal,
        table: LiveTable, session: int,
    ) -> None:  # fmt: skip
        self._ray, self._inputs, self._settings = ray, inputs, settings
        self._space, self._journal, self._table = space, journal, table
        self._session = f"session-{session}"

    def run(self, total: int, *, epochs: int, eval_step: int, seed: int) -> None:
        """Run the trials; one that fails does not end the search.

        Args:
            total: Trials of the whole search.
            epochs: Most epochs of a trial.
            eval_step: Epochs between validations.
            seed: Seed of everything that schedulers and searchers draw.
        """
        from ray import tune

        left = [trial for trial in self._journal.trials.values() if trial.status not in OVER]
        open_end = self._settings.search_alg == "hyperopt"
        if not left and not (open_end and len(self._journal.trials) < total):
            return
        seed_ray(seed)
        settings, bigger = self._settings, self._inputs.bigger
        searcher, space, number = None, {"trial": tune.grid_search([self._start_of(trial) for trial in left])}, 1
        if open_end:
            searcher = make_searcher(self._space, self._journal, number=total, bigger=bigger, seed=seed)
            space, number = {}, total - sum(trial.status in OVER for trial in self._journal.trials.values())
        done = min((trial.saved_epoch for trial in left), default=0)
        scheduler = make_scheduler(
            settings, self._space, self._journal, bigger=bigger, epochs=epochs, eval_step=eval_step, seed=seed,
            done=done,
        )  # fmt: skip
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train_trial, inputs=self._inputs), self.resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                scheduler=scheduler,
                search_alg=searcher,
                num_samples=number,
                max_concurrent_trials=settings.max_concurrent,
                time_budget_s=settings.time_budget_s,
                reuse_actors=True,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=self._run_config(),
        )
        try:
            tuner.fit()
        finally:
            self._table.clear()
            for trial in self._journal.trials.values():
                if trial.status == RUNNING:
                    self._journal.write("ended", trial.name, status=CUT)

    def _run_config(self) -> Any:
        from ray import tune

        from recbole_lcrec.tuning.notes import Notes

        return tune.RunConfig(
            name=self._session,
            storage_path=f"{self._inputs.storage.where}/{ENGINE}",
            callbacks=[Notes(self._journal, self._table, f"{ENGINE}/{self._session}", self._drop_weights)],
            failure_config=tune.FailureConfig(max_failures=self._settings.trial_retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=KEEP),
            verbose=0,
            log_to_file=False,
        )

    @property
    def resources(self) -> dict[str, float]:
        """What a trial is given."""
        gpus = {"GPU": self._inputs.gpus} if self._inputs.gpus else {}
        return {"CPU": self._settings.cpus_per_trial, **gpus}

    def _start_of(self, trial: TrialRecord) -> dict[str, Any]:
        """Return the configuration of a trial, and for pbt where an interrupted one continues."""
        resume = f"{self._inputs.storage.where}/{trial.checkpoint}" if trial.checkpoint else None
        return {"name": trial.name, "values": trial.values, "resume": resume}

    @property
    def population_is_needed(self) -> bool:
        """Whether pbt may still continue from a state."""
        return bool(self._inputs.population_every) and any(
            trial.status not in OVER for trial in self._journal.trials.values()
        )

    def _drop_weights(self) -> None:
        """Remove the checkpoints of trials that are over and not the best."""
        if self.population_is_needed:
            return  # the best trial is not known yet
        over = [trial for trial in self._journal.ranked(self._inputs.bigger) if trial.status in OVER]
        for trial in over[1:]:
            self._inputs.storage.drop_weights(trial.name)

    def bring(self, best: str) -> None:
        """Make sure that the output folder has all that the trials wrote."""
        for name in self._journal.trials:
            self._inputs.storage.bring(name, weights=name == best)

    def test(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate a trial's checkpoint on the test users, in a process like those of the trials; write the ranks."""
        resources = self.resources
        task = self._ray.remote(test_trial).options(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0))
        result, ranks = self._ray.get(task.remote(name, values, self._inputs))
        if ranks is not None:
            with atomic_path(self._inputs.storage.output_dir / RANKS) as temporary:
                temporary.write_bytes(ranks)
        return result


def _name_of(trial: Any) -> str:
    """Return our name of one of Ray's trials, on its creation: pbt gives it another one's configuration later."""
    return str(trial.config["trial"]["name"])
