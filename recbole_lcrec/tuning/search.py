"""A search from its command to its results: check, share the data, run the trials, test the best one once."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import Given
from recbole_lcrec.config.named_files import absolute_options
from recbole_lcrec.config.reading import Reading
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.contents import check_same_contents, contents
from recbole_lcrec.distributed.cluster import check_resources, ray_session, remove_temporary, temporary_folder
from recbole_lcrec.experiment.outputs import log_result, output_folder
from recbole_lcrec.training.interruption import terminations
from recbole_lcrec.tuning.data import SharedData, share_data
from recbole_lcrec.tuning.journal import CUT, JOURNAL, Journal
from recbole_lcrec.tuning.live import LiveTable
from recbole_lcrec.tuning.reach import check_reach, files_of
from recbole_lcrec.tuning.report import write_outputs
from recbole_lcrec.tuning.results import BEST, TRIALS_CSV, SearchOutcome
from recbole_lcrec.tuning.runner import TrialRunner
from recbole_lcrec.tuning.search_checks import check_search
from recbole_lcrec.tuning.search_settings import SearchSettings, tune_options
from recbole_lcrec.tuning.space import Space, read_space
from recbole_lcrec.tuning.storage import ENGINE, TRIALS, Storage, is_uri
from recbole_lcrec.tuning.tpe import check_hyperopt
from recbole_lcrec.tuning.trial import TrialInputs
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.locks import run_lock
from recbole_lcrec.utils.program import program
from recbole_lcrec.utils.run_files import RESULT
from recbole_lcrec.utils.run_folder import check_empty
from recbole_lcrec.utils.timer import StageTimer
from recbole_lcrec.version import __version__

logger = logging.getLogger(__name__)

SEARCH, LOG = "search.json", "search.log"


@dataclass(frozen=True)
class SearchPlan:
    """What a search is, from its first command to its last resume.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        given: Options of the files and of the command line, with absolute paths.
        space: What is varied.
        settings: Options of the search.
        folder: The output folder.
    """

    model: str
    dataset: str
    given: Mapping[str, Any]
    space: Space
    settings: SearchSettings
    folder: Path

    @property
    def storage(self) -> Storage:
        """Where the trials leave what they write."""
        return Storage.of_search(self.folder, self.settings.storage_path)

    def save(self, more: Mapping[str, Any]) -> None:
        """Write search.json, from which ``--resume_tune`` continues."""
        values = {
            "model": self.model,
            "dataset": self.dataset,
            "given": dict(self.given),
            "space": self.space.as_values(),
            "space_source": self.space.source,
            "settings": asdict(self.settings),
            "version": __version__,
            **more,
        }
        write_json(self.folder / SEARCH, values)


def load_plan(folder: Path, changes: Mapping[str, Any]) -> tuple[SearchPlan, dict[str, Any]]:
    """Return the plan of a search that was interrupted, and all that its search.json holds.

    Args:
        folder: The search's output folder.
        changes: Options of the search that are given anew, such as a time budget or more samples.

    Raises:
        UserError: If the folder holds no search, or an option changes that the trials so far depend on.
    """
    import json

    path = folder / SEARCH
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        space = read_space({name: Given(v, None, f"{path}") for name, v in saved["space"].items()}, str(path))
        saved["settings"].pop("ship_data", None)  # of searches before storage_path
        before = {**tune_options(), **saved["settings"]}
        SearchSettings(**before)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not the folder of a search: it has no {SEARCH}. Give its output_dir.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read as the record of a search ({error}). Start the search anew."
        ) from error
    for name in ("scheduler", "search_alg", "asha_grace", "asha_reduction", "pbt_interval"):
        if name in changes and changes[name] != before[name]:
            raise UserError(
                f"option {name} is {changes[name]}, but the search began with {before[name]}; its trials could not be "
                "compared. Leave it out, or start a new search."
            )
    settings = _settled(SearchSettings(**{**before, **changes}))
    if settings.storage_path != before["storage_path"] and before["storage_path"] is not None:
        raise UserError(
            f"option storage_path is {settings.storage_path}, but the trials so far have stored their "
            f"results in {before['storage_path']}. Leave it out."
        )
    given = {**saved["given"], "output_dir": str(folder)}
    return SearchPlan(saved["model"], saved["dataset"], given, space, settings, folder), saved


def _settled(settings: SearchSettings) -> SearchSettings:
    """Return the settings with a folder for results that does not depend on the working directory."""
    path = settings.storage_path
    return settings if path is None or is_uri(path) else replace(settings, storage_path=str(Path(path).absolute()))


def search(
    model: str, dataset: str, given: Mapping[str, Any], space: Space, settings: SearchSettings
) -> dict[str, Any]:
    """Search hyper-parameters; write everything to ``output_dir`` and return what its result.json holds.

    Args:
        model: Name of a model of this package or of RecBole.
        dataset: Name of a data set.
        given: Options of the run, checked; they hold for every trial.
        space: What is varied.
        settings: Options of the search.

    Raises:
        UserError: For anything that the user has to change, before a trial starts.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when what is done has been written.
    """
    options = absolute_options(given)
    name = f"tune-{model}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(options.get("output_dir") or Path("saved") / name).absolute()
    if (folder / SEARCH).exists():
        raise UserError(f"output_dir={folder} holds a search. Go on with it by --resume_tune={folder}, or choose "
                        "another folder.")  # fmt: skip
    check_empty(folder, "search", own=(LOG,))  # the log alone: of a search that was killed as it began
    given = {**options, "output_dir": str(folder)}
    return _run(SearchPlan(model, dataset, given, space, _settled(settings), folder), {})


def resume(folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Continue a search: trials that are over stay as they are, all others run. Arguments as for ``load_plan``."""
    plan, saved = load_plan(Path(folder).absolute(), changes)
    return _run(plan, saved)


def _configurations(plan: SearchPlan, seed: int) -> list[dict[str, Any]]:
    """Return the configurations of the whole search; hyperopt finds them only as it goes."""
    if plan.settings.search_alg == "hyperopt":
        return []
    if plan.settings.search_alg == "grid":
        return plan.space.grid()
    return plan.space.random(plan.settings.samples, seed)


def _run(plan: SearchPlan, saved: Mapping[str, Any]) -> dict[str, Any]:
    reading = Reading()
    config = check_search(plan.model, plan.dataset, plan.given, plan.space, plan.settings, reading)
    if plan.settings.search_alg == "hyperopt":
        with reading.caught():
            check_hyperopt(plan.space)
    reading.finish()
    run = RunOptions(config)
    found = _configurations(plan, run.seed)
    if plan.settings.scheduler == "pbt" and len(found) < 2:
        raise UserError(f"{plan.space.source}: scheduler pbt needs two or more configurations, found {len(found)}.")
    number = len(list(plan.folder.glob("search*.log"))) + 1
    log = LOG if number == 1 else f"search-{number}.log"
    with output_folder(plan.folder, log, run.state) as keep, run_lock(plan.folder), terminations():
        timer = StageTimer()
        data = share_data(config, plan.space, plan.settings.threads, timer)
        sha = data.sha256
        if saved and saved["split_sha256"] != sha:
            raise UserError(f"{plan.folder}: the data are not those that the search began with (split "
                            f"{saved['split_sha256'][:12]}, now {sha[:12]}). Bring back the old files.")  # fmt: skip
        files = contents(Path(run.data_path), run.dataset)
        check_same_contents(saved.get("files", files), files, plan.folder, "search")
        keep()
        remove_temporary(saved.get("temporary"))
        facts = {
            "split_sha256": sha,
            "files": files,
            "data_seconds": timer.seconds,
            "session": saved.get("session", 0) + 1,
        }
        return _search(plan, config, found, data, facts)


def _search(
    plan: SearchPlan, config: LCRecConfig, found: list[dict[str, Any]], data: SharedData, facts: dict[str, Any]
) -> dict[str, Any]:
    """Run the trials that are left and test the best one; write the results even if that is interrupted."""
    run = RunOptions(config)
    bigger, metric, settings = run.valid_metric_bigger, run.valid_metric.lower(), plan.settings
    temporary = temporary_folder()
    plan.save({**facts, "metric": metric, "bigger": bigger, "temporary": str(temporary)})
    journal, keeps_states = Journal(plan.folder / JOURNAL), False
    outcome = SearchOutcome(plan.model, plan.dataset, plan.given, plan.space, journal, metric, bigger, run.seed)
    try:
        _plan_trials(journal, found)
        total = len(journal.trials) if found else settings.samples
        table = LiveTable(
            journal, metric=metric, bigger=bigger, total=total, epochs=_most_epochs(plan.space, config),
            budget=settings.time_budget_s, show=run.show_progress,
        )  # fmt: skip
        with ray_session(
            settings.address, temporary, cpus=settings.cpus_per_trial, shared_bytes=len(data.split or b""),
            dashboard=settings.dashboard,
        ) as ray:  # fmt: skip
            gpus = check_resources(ray, settings.cpus_per_trial, settings.gpus_per_trial, run.use_gpu, "trial")
            inputs = _inputs(plan, config, data, gpus)
            _check_machines(ray, plan, inputs)
            runner = TrialRunner(ray, inputs, settings, plan.space, journal, table, facts["session"])
            try:
                runner.run(total, epochs=_most_epochs(plan.space, config), eval_step=run.eval_step, seed=run.seed)
            finally:
                keeps_states = runner.population_is_needed
            write_outputs(plan.folder, outcome)
            _check_room(plan.folder, journal)
            return _test_best(plan.folder, outcome, runner)
    except KeyboardInterrupt:
        write_outputs(plan.folder, outcome)
        logger.info("Stopped. What is done is in %s", plan.folder)
        logger.info("Go on with: %s --resume_tune=%s", program(), plan.folder)
        raise
    finally:
        journal.close()
        shutil.rmtree(temporary, ignore_errors=True)
        if not keeps_states:
            with suppress(OSError):
                plan.storage.remove(ENGINE)


def _check_room(folder: Path, journal: Journal) -> None:
    """Refuse to finish a search if trials of it could not write.

    Raises:
        UserError: With what to do.
    """
    cut = [trial for trial in journal.trials.values() if trial.status == CUT and trial.error]
    if cut:
        names = ", ".join(trial.name for trial in cut)
        raise UserError(f"{names}: {cut[0].error} What is done is kept; go on with --resume_tune={folder}.")


def _most_epochs(space: Space, config: LCRecConfig) -> int:
    """Return the most epochs of a trial, including those of a stage after the training."""

    def most(name: str) -> int:
        return int(max(space[name].points() or ()) if name in space.names else config[name])

    has_stage = "preference_stage" in space.names or RunOptions(config).preference_stage not in (None, "none")
    return most("epochs") + (most("preference_epochs") if has_stage else 0)


def _test_best(folder: Path, outcome: SearchOutcome, runner: TrialRunner) -> dict[str, Any]:
    """Test the best trial's checkpoint, write result.json and end the log."""
    best = outcome.best()
    if best is None:
        errors = [f"\n  {trial.name}: {trial.error or trial.status}" for trial in outcome.journal.trials.values()]
        raise UserError(f"no trial came to a result ({folder / TRIALS_CSV} lists them):{''.join(errors[:5])}")
    runner.bring(best.name)
    logger.info("Testing %s, the best of %d trials, once", best.name, len(outcome.journal.trials))
    report = best.best(outcome.bigger)
    assert report is not None
    result = {
        **runner.test(best.name, report["values"]),
        "best_valid_result": report["metrics"],
        "trial": best.name,
        "run": str(folder / TRIALS / best.name),
        "values": report["values"],
        "epoch": report["epoch"],
        "trials": outcome.counts(),
    }
    write_json(folder / RESULT, result)
    write_outputs(folder, outcome, result)
    log_result(result, folder)
    found = shlex.quote(str(folder / BEST))
    logger.info("Train with its options: %s --config_files=%s", program(), found)
    return {**result, "output_dir": str(folder)}


def _check_machines(ray: Any, plan: SearchPlan, inputs: TrialInputs) -> None:
    """Refuse machines of a cluster that cannot reach what the trials need, and a storage that cannot be written to."""
    if not plan.settings.address and plan.storage.is_direct:
        return
    data = inputs.data
    varied = [{name: value} for name in plan.space.names for value in plan.space[name].points() or ()]
    wanted = files_of(data.reads, [inputs.given, *varied], plan.dataset)
    cache = Path(inputs.given["cache_dir"]) if "cache_dir" in data.reads else None
    why = f" (the space varies {', '.join(data.varied)}, so that every trial reads them itself)" if data.varied else ""
    check_reach(ray, plan.storage, wanted, cache, why)


def _made(folder: str) -> Path:
    path = Path(folder).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _plan_trials(journal: Journal, found: list[dict[str, Any]]) -> None:
    """Note the configurations that are not in the journal yet; it has the first ones, as their order is fixed."""
    for number, values in enumerate(found[len(journal.trials) :], len(journal.trials) + 1):
        journal.write("planned", f"t{number:04d}", values=values)


def _inputs(plan: SearchPlan, config: LCRecConfig, data: SharedData, gpus: float) -> TrialInputs:
    run = RunOptions(config)
    settings = plan.settings
    # independent of the working directory of the machines' processes
    folders = {
        "data_path": str(Path(run.data_path).absolute().parent),
        "cache_dir": str(_made(run.cache_dir)),
    }
    return TrialInputs(
        model=plan.model,
        dataset=plan.dataset,
        given={**plan.given, **folders},
        storage=plan.storage,
        data=data,
        metric=run.valid_metric.lower(),
        bigger=run.valid_metric_bigger,
        threads=settings.threads,
        gpus=gpus,
        population_every=settings.pbt_interval * run.eval_step if settings.scheduler == "pbt" else 0,
    )
