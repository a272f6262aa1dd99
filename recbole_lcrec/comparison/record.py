"""comparison.json: a comparison as data, each number with what made it, for tables that cannot go stale."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lcrec.comparison.leaderboard import Board
from recbole_lcrec.comparison.plan import Plan
from recbole_lcrec.comparison.results import ModelResult, RunResult
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.program import program
from recbole_lcrec.utils.run_files import RECORD


def write_record(plan: Plan, board: Board) -> None:
    """Write comparison.json into the comparison's folder.

    Args:
        plan: What was run.
        board: The models in order.
    """
    write_json(plan.output_dir / RECORD, record(plan, board))


def record(plan: Plan, board: Board) -> dict[str, Any]:
    """Return what comparison.json holds; arguments as for :func:`write_record`.

    ``rows`` has one object per model: its options, and lists with a value per seed. Unknown values are None.
    """
    runs = [run for model in board.results for run in model.runs]
    results = [run.result for run in runs]
    first: Mapping[str, Any] = results[0] if results else {}
    users = next((run.ranks["user"].nunique() for run in runs if run.ranks is not None), None)
    return {
        "command": f"{program()} {shlex.join(sys.argv[1:])}" if sys.argv[1:] else None,
        "date": _all([result.get("date") for result in results]),
        "commit": _all([result.get("commit") for result in results]),
        "version": _all([result["versions"].get("recbole_lcrec") for result in results]),
        "machine": {**first.get("machine", {}), "runs_at_once": plan.jobs},
        "dataset": plan.dataset,
        "split_sha256": first.get("split_sha256"),
        "test_users": users,
        "options": dict(plan.options),
        "seeds": list(plan.seeds),
        "trials": None,  # how many choices of options were tried before is known to people only
        "metric": board.main,
        "rows": [_row(result, board.main) for result in board.results],
    }


def still_rising(run: RunResult, metric: str) -> bool | None:
    """Return whether the last validation of a training was its best, so that more epochs might do better.

    Args:
        run: A finished run.
        metric: The one that validation chose by, in lower case, of which more is better.

    Returns:
        None if there were fewer than two validations.
    """
    found = [
        value
        for point in run.result["learning_curve"]
        for name, value in (point.get("valid") or {}).items()
        if name.lower() == metric
    ]
    return found[-1] > max(found[:-1]) if len(found) > 1 else None


def _row(model: ModelResult, metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model.label, "name": model.entry.model, "options": dict(model.entry.options)}
    row |= {"status": model.status, "seeds": [run.seed for run in model.runs], **model.values()}
    valid = [{k.lower(): v for k, v in (run.result.get("best_valid_result") or {}).items()} for run in model.runs]
    return row | {
        "validation": [values.get(metric) for values in valid],
        "epochs": [run.result["epochs"] for run in model.runs],
        "still_rising": [still_rising(run, metric) for run in model.runs],
        "minutes": [round(run.seconds / 60, 2) for run in model.runs],
        "parameters": [run.result["parameters"]["total"] for run in model.runs],
    }


def _all(values: Sequence[str | None]) -> str | None:
    """Return the distinct values in one text, None if any is unknown."""
    known = [value for value in dict.fromkeys(values) if value is not None]
    return ", ".join(sorted(known)) if known and None not in values else None
