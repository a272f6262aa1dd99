"""report.html of a run: what was run, its metrics and learning curve, and users to look at, on one short page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.evaluation import users
from recbole_lcrec.evaluation.ranks import Ranks, history_lengths, item_counts
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.pages import display, render
from recbole_lcrec.pages.plots import HALF, PALETTE, Plot, Series, linear
from recbole_lcrec.utils.files import write_text
from recbole_lcrec.utils.run_files import REPORT

logger = logging.getLogger(__name__)


def write_report(experiment: Experiment, result: Mapping[str, Any]) -> None:
    """Write report.html into the run's folder.

    Args:
        experiment: The experiment after its test.
        result: The contents of result.json.
    """
    write_text(experiment.output_dir / REPORT, report_page(experiment, result))


def report_page(experiment: Experiment, result: Mapping[str, Any]) -> str:
    """Return the page; arguments as for :func:`write_report`."""
    shown = None if experiment.ranks is None else _users(experiment, experiment.ranks)
    valid, metric = result["best_valid_result"] or {}, RunOptions(experiment.config).valid_metric
    return render(
        "run.html",
        result=result,
        valid_metric=metric,
        metrics=[
            [display(name), f"{valid[name]:.4f}" if name in valid else "–", f"{value:.4f}"]
            for name, value in (result["test_result"] or {}).items()
        ],
        beyond=[[display(name), f"{value:.4g}"] for name, value in result.get("beyond_accuracy", {}).items()],
        seconds=", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items()),
        curves=_curves(result["learning_curve"], metric),
        shown=shown,
    )


def _users(experiment: Experiment, ranks: Ranks) -> dict[str, Any]:
    data, test = experiment.dataset, experiment.test_data._dataset
    of_user, of_item = (data.field2id_token[field].astype(str) for field in (data.uid_field, data.iid_field))
    of_item[0] = ""
    rows = np.unique(np.stack([ranks.users, ranks.targets]), axis=1, return_index=True)[1]  # the first wording
    lengths, popularity = history_lengths(data, test)[ranks.users], item_counts(experiment.train_data._dataset)
    popularity = popularity[ranks.targets]
    named, names = users.group_names(lengths[rows], popularity[rows])
    places = users.drawn(of_user[ranks.users[rows]], of_item[ranks.targets[rows]])
    rows = rows[places]
    tokens, targets, top = of_user[ranks.users[rows]], of_item[ranks.targets[rows]], of_item[ranks.top[rows]]
    before = users.histories(data, test, tokens.tolist())
    chosen = users.Chosen(
        tokens.tolist(), targets.tolist(), lengths[rows].tolist(), popularity[rows].tolist(),
        [named[place] for place in places], names, [before[user] for user in tokens.tolist()],
        users.titles(data, {*targets.tolist(), *top.ravel().tolist(), *(i for one in before.values() for i in one)}),
    )  # fmt: skip
    model = RunOptions(experiment.config).model
    lists = users.Lists(model, ranks.ranks[rows].tolist(), ranks.censored[rows].tolist(), top.tolist())
    return {"rows": users.page_rows(chosen, [lists]), "groups": chosen.choices(), "total": len(named)}


def _curves(points: list[dict[str, Any]], metric: str) -> list[Plot]:
    """Return plots of the training loss and the validation metric by epoch, if there are several points."""
    lines = {
        "Training loss": [(point["epoch"] + 1, point["train_loss"]) for point in points],
        f"Validation {display(metric)}": [
            (point["epoch"] + 1, value)
            for point in points
            for name, value in (point.get("valid") or {}).items()
            if name.lower() == metric.lower()
        ],
    }
    plots = []
    for (title, line), tint in zip(lines.items(), PALETTE, strict=False):
        if len(line) > 1:
            x = linear("epochs", [x for x, _ in line], zero=False, whole=True)
            y = linear(title, [y for _, y in line])
            series = [Series("line", line, title, tint), Series("points", line, tint=tint, weight=3)]
            plots.append(Plot(title.split()[0].lower(), f"{title} by epoch", x, y, series, width=HALF, height=300))
    return plots
