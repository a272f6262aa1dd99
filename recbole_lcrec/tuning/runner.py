"""The trials of a search under Ray Tune: what is started, and what is noted of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lcrec.saved_run import EMBEDDINGS
from recbole_lcrec.tuning.journal import CUT, FAILED, FINISHED, OVER, RUNNING, STOPPED, Journal
from recbole_lcrec.tuning.live import LiveTable
from recbole_lcrec.tuning.place import POPULATION
from recbole_lcrec.tuning.schedulers import make_scheduler, seed_ray
from recbole_lcrec.tuning.settings import SearchSettings
from recbole_lcrec.tuning.shipping import machine_folder
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.tuning.tpe import make_searcher
from recbole_lcrec.tuning.trial import TrialInputs, latest_point, test_trial, train_trial

logger = logging.getLogger(__name__)

RAY_FOLDER = ".ray"
"""Ray Tune's notes while trials run: in the output folder, or in the machines' own folders of the search."""


class TrialRunner:
    """Runs what the journal says is left to run.

    Args:
        ray: The module, connected.
        inputs: What all trials share.
        settings: Options of the search.
        space: What is varied.
        journal: Gets every event.
        table: Shows them.
    """

    def __init__(
        self, ray: Any, inputs: TrialInputs, settings: SearchSettings, space: Space, journal: Journal, table: LiveTable
    ) -> None:
        self._ray, self._inputs, self._settings = ray, inputs, settings
        self._space, self._journal, self._table = space, journal, table

    def run(self, total: int, *, epochs: int, eval_step: int, seed: int) -> None:
        """Run the trials; one that fails does not end the search.

        Args:
            total: Trials of the whole search.
            epochs: Most epochs of a trial.
            eval_step: Epochs between validations.
            seed: Of everything that schedulers and searchers draw.
        """
        from ray import tune

        left = [trial for trial in self._journal.trials.values() if trial.status not in OVER]
        open_end = self._settings.search_alg == "hyperopt"
        if not left and not (open_end and len(self._journal.trials) < total):
            return
        seed_ray(seed)
        settings, bigger = self._settings, self._inputs.bigger
        starts = [self._start_of(trial) for trial in left]
        done = min((start["resume"]["epoch"] if start["resume"] else 0 for start in starts), default=0)
        searcher, space, number = None, {"trial": tune.grid_search(starts)}, 1
        if open_end:
            searcher = make_searcher(self._space, self._journal, number=total, bigger=bigger, seed=seed)
            space, number = {}, total - sum(trial.status in OVER for trial in self._journal.trials.values())
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train_trial, inputs=self._inputs), self.resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                scheduler=make_scheduler(
                    settings,
                    self._space,
                    self._journal,
                    bigger=bigger,
                    epochs=epochs,
                    eval_step=eval_step,
                    seed=seed,
                    done=done,
                ),
                search_alg=searcher,
                num_samples=number,
                max_concurrent_trials=settings.max_concurrent,
                time_budget_s=settings.time_budget_s,
                reuse_actors=True,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(self._notes),
                callbacks=[self._callback()],
                failure_config=tune.FailureConfig(max_failures=settings.trial_retries),
                verbose=0,
                log_to_file=False,
            ),
        )
        try:
            tuner.fit()
        finally:
            self._table.clear()
            for trial in self._journal.trials.values():
                if trial.status == RUNNING:
                    self._journal.write("ended", trial.name, status=CUT)

    @property
    def _notes(self) -> Path:
        """Where Ray Tune keeps its notes of trials on every machine; nothing is read from them."""
        shipment = self._inputs.shipment
        return self._inputs.folder / RAY_FOLDER if shipment is None else machine_folder(shipment.name) / RAY_FOLDER

    @property
    def resources(self) -> dict[str, float]:
        """What a trial is given."""
        gpus = {"GPU": self._inputs.gpus} if self._inputs.gpus else {}
        return {"CPU": self._settings.cpus_per_trial, **gpus}

    def _start_of(self, trial: Any) -> dict[str, Any]:
        """Return the configuration of a trial, and for pbt where an interrupted one goes on."""
        point = latest_point(self._inputs.folder_of(trial.name)) if self._inputs.population_every else None
        return {"name": trial.name, "values": trial.values, "resume": point}

    def _callback(self) -> Any:
        from ray.tune import Callback

        journal, table = self._journal, self._table
        inputs = self._inputs
        drop = self._drop_checkpoints

        class Notes(Callback):
            """Writes what Ray tells into the journal."""

            def __reduce__(self) -> Any:
                return Callback, ()  # Ray pickles what it is given for a resume of its own; the journal is ours

            def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
                table.refresh()

            def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                if trial.num_failures > died.get(_name_of(trial), 0):
                    crashed(trial)
                    table.clear()
                    logger.warning("%s: its process died; the trial is started again.", _name_of(trial))
                name = _name_of(trial)
                anew = not inputs.population_every or latest_point(inputs.folder_of(name)) is None
                journal.write("started", name, anew=anew)

            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
                name = _name_of(trial)
                if "failed" in result:
                    end(name, FAILED, result["failed"])
                elif "no_room" in result:
                    end(name, CUT, result["no_room"])
                elif "finished" in result:
                    end(name, FINISHED)
                elif "epoch" in result:
                    keys = ("epoch", "score", "metrics", "seconds", "values", "copied", "node", "pid")
                    journal.write("reported", name, **{key: result.get(key) for key in keys})

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                if journal.trials[_name_of(trial)].status not in (*OVER, CUT):
                    end(_name_of(trial), STOPPED)

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                crashed(trial)
                times = journal.trials[_name_of(trial)].crashes
                end(_name_of(trial), FAILED, f"its process died {times} time(s)")

        died: dict[str, int] = {}

        def crashed(trial: Any) -> None:
            died[_name_of(trial)] = trial.num_failures
            journal.write("crashed", _name_of(trial), error="its process died")

        def end(name: str, status: str, error: str | None = None) -> None:
            journal.write("ended", name, status=status, error=error)
            table.ended(journal.trials[name])
            drop()

        return Notes()

    def _drop_checkpoints(self) -> None:
        """Remove the checkpoints of trials that are over and not the best; pbt may still copy from any."""
        if self._inputs.population_every and any(t.status not in OVER for t in self._journal.trials.values()):
            return
        over = [trial for trial in self._journal.ranked(self._inputs.bigger) if trial.status in OVER]
        for place, trial in enumerate(over):
            folder = self._inputs.folder_of(trial.name)
            if place:
                shutil.rmtree(folder / "checkpoint", ignore_errors=True)
                (folder / EMBEDDINGS).unlink(missing_ok=True)  # large, and of no use without it
            if self._inputs.population_every:
                shutil.rmtree(folder / POPULATION, ignore_errors=True)

    def test(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate a trial's checkpoint on the test users, in a process like those of the trials."""
        resources = self.resources
        task = self._ray.remote(test_trial).options(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0))
        return self._ray.get(task.remote(name, values, self._inputs))


def _name_of(trial: Any) -> str:
    """Return our name of one of Ray's trials."""
    # pbt gives a trial the configuration of another one, with its name: the first one stays
    return str(trial.__dict__.setdefault("our_name", trial.config["trial"]["name"]))
