"""``compare``: from a checked command line to a finished comparison."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from recbole_lcrec.comparison.plan import Plan, Run, make_plan
from recbole_lcrec.comparison.results import collect, load_run
from recbole_lcrec.comparison.runner import Runner
from recbole_lcrec.comparison.specs import Cluster, Entry
from recbole_lcrec.comparison.workers import LocalWorkers, Workers
from recbole_lcrec.config.names import dataset_folder
from recbole_lcrec.data.contents import check_same_contents, contents
from recbole_lcrec.training.interruption import terminations
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.locks import run_lock
from recbole_lcrec.utils.program import program
from recbole_lcrec.utils.recbole_patches import logging_to, quiet
from recbole_lcrec.utils.run_folder import check_empty

logger = logging.getLogger(__name__)

LOG, DATA = "comparison.log", "data.json"


def compare(
    dataset: str,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    jobs: int | None = 1,
    cluster: Cluster | None = None,
) -> int:
    """Run everything that is not finished yet, then write the leaderboard and the report into ``output_dir``.

    Args:
        dataset: Name of the data set.
        entries: What is compared.
        seeds: Every entry is run once with each.
        options: Checked options that all runs share.
        jobs: Runs at once; None for as many as the cluster has room for.
        cluster: Where the runs are carried out; None for this machine.

    Returns:
        The exit status: 0, or 1 if a run failed (the others are compared all the same).

    Raises:
        UserError: For a wrong option, an unfit cluster, a folder of the user's own files or of another comparison in
            progress, before anything is started; or if runs turn out to have different splits.
    """
    with quiet():
        plan = make_plan(dataset, entries, seeds, options, jobs)
    with _workers(cluster, plan) as workers:
        try:
            plan.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"output_dir={plan.output_dir}: cannot be written to ({error.strerror}). Choose another."
            ) from error
        # a second one would remove the results that the first is working on
        with run_lock(plan.output_dir):
            if not (plan.output_dir / LOG).exists():  # a comparison's first file: without it nothing here is one's
                check_empty(plan.output_dir, "comparison")
                (plan.output_dir / LOG).touch()
            _check_data(plan)
            with logging_to(plan.output_dir / LOG, str(options.get("state") or "INFO")):
                return _compare(plan, workers)


def _check_data(plan: Plan) -> None:
    """Refuse to continue with data other than the comparison began with; data to be downloaded are not known yet.

    Raises:
        UserError: Naming the files that differ.
    """
    path = plan.output_dir / DATA
    now = contents(dataset_folder(plan.dataset, plan.runs[0].stages[0].resolved["data_path"]), plan.dataset)
    if not now:
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        check_same_contents(before, now, plan.output_dir, "comparison")
    except FileNotFoundError:
        write_json(path, now)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Remove it if the data are still the same.") from error


def _workers(cluster: Cluster | None, plan: Plan) -> AbstractContextManager[Workers]:
    """Return who carries out the runs; Ray is imported only for a cluster."""
    if cluster is None:
        assert plan.jobs is not None
        return nullcontext(LocalWorkers(plan.jobs))
    from recbole_lcrec.comparison.tasks import cluster_tasks

    return cluster_tasks(cluster, plan)


def _compare(plan: Plan, workers: Workers) -> int:
    from recbole_lcrec.comparison.leaderboard import (
        all_tests,
        leaderboard_text,
        main_metric,
        make_board,
        write_leaderboard,
    )
    from recbole_lcrec.comparison.record import write_record
    from recbole_lcrec.comparison.report import write_report

    runner = Runner(plan, workers, _SameSplit())
    logger.info(
        "%d runs of %d models with seed(s) %s on %s, %s, %d torch thread(s) each. Everything is in %s",
        len(plan.runs), len(plan.entries), ", ".join(map(str, plan.seeds)), plan.dataset, workers.describe(),
        workers.threads, plan.output_dir,
    )  # fmt: skip
    try:
        with terminations():
            outcomes = runner.run()
    except KeyboardInterrupt:
        logger.error("Interrupted: the runs in progress were stopped, finished ones are kept. Go on with:")
        logger.error("  %s", _again(plan))
        raise
    board = make_board(collect(plan, outcomes), main_metric(plan))
    tests = all_tests(board)
    write_leaderboard(plan, board, tests)
    write_record(plan, board)
    write_report(plan, board, tests, workers.threads)
    failed = [outcome for outcome in outcomes if outcome.reason]
    for outcome in failed:
        logger.error("Failed: %s: %s", outcome.run.name, outcome.reason)
    logger.info("leaderboard.csv, .md, .tex, comparison.json and report.html are in %s", plan.output_dir)
    logger.info("Models on %s\n%s", plan.dataset, leaderboard_text(board))
    if failed:
        logger.error("%d of %d runs failed. The same command tries them again.", len(failed), len(outcomes))
    return 1 if failed else 0


class _SameSplit:
    """Refuses a run whose split differs from that of the first one."""

    def __init__(self) -> None:
        self._first: tuple[str, str] | None = None

    def __call__(self, run: Run) -> None:
        sha = load_run(run.folder)["split_sha256"]
        if self._first is None:
            self._first = (run.name, sha)
        name, first = self._first
        if sha != first:
            raise UserError(
                f"{run.name} was tested on another split ({sha[:12]}) than {name} ({first[:12]}): their numbers must "
                "not be compared, so the comparison stops here. Either the data changed between the runs (then delete "
                f"{run.folder.parent} and start again), or an option of one model changes the data, such as "
                "MAX_ITEM_LIST_LENGTH or a filter (then give it to all of them)."
            )


def _again(plan: Plan) -> str:
    """Return the command that continues a comparison."""
    if not sys.argv[1:]:
        return f"the same call, with output_dir={plan.output_dir}"
    return f"{program()} {shlex.join(sys.argv[1:])}"
