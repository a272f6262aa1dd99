"""What a search leaves: best.yaml, trials.csv and report.html, made of the journal alone. Validation metrics only."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.tuning.journal import Journal, TrialRecord
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.utils.program import program

BEST, TRIALS_CSV, REPORT = "best.yaml", "trials.csv", "report.html"
_NOT_OF_A_CONFIGURATION = ("output_dir", "show_progress")


@dataclass(frozen=True)
class SearchOutcome:
    """A search so far.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        given: Options that hold for every trial.
        space: What was varied.
        journal: What happened.
        metric: The metric that counts.
        bigger: Whether a greater score is better.
        seed: Of the search.
    """

    model: str
    dataset: str
    given: Mapping[str, Any]
    space: Space
    journal: Journal
    metric: str
    bigger: bool
    seed: int

    def best(self) -> TrialRecord | None:
        """Return the best trial; None before the first validation."""
        return self.journal.best(self.bigger)

    def ranked(self) -> list[TrialRecord]:
        """Return all trials, best first."""
        return self.journal.ranked(self.bigger)

    def counts(self) -> dict[str, int]:
        """Return how many trials there are of each status."""
        return dict(sorted(Counter(trial.status for trial in self.journal.trials.values()).items()))


def best_yaml(outcome: SearchOutcome, trial: TrialRecord) -> str:
    """Return the options of a trial as a file for --config_files, which names model and data set too."""
    report = trial.best(outcome.bigger)
    assert report is not None
    options = {"model": outcome.model, "dataset": outcome.dataset, **outcome.given, **report["values"]}
    options = {name: value for name, value in options.items() if name not in _NOT_OF_A_CONFIGURATION}
    found = f"# Trial {trial.name} of a search: {outcome.metric} {report['score']:.6f} on validation after epoch "
    found += f"{report['epoch']}."
    note = f"# Run it: {program()} --config_files=best.yaml\n"
    if any(earlier["values"] != report["values"] for earlier in trial.reports):
        note += "# pbt changed the values while it trained: these are the last ones, and a new run differs.\n"
    return f"{found}\n{note}{dump_values(options, sort_keys=False)}"


def trials_csv(outcome: SearchOutcome) -> str:
    """Return one line per trial, best first: what it was, how it ended, its metrics at its best validation."""
    ranked = outcome.ranked()
    metrics = list(dict.fromkeys(name for t in ranked for report in t.reports for name in report["metrics"]))
    head = ["trial", "status", *(f"valid_{name}" for name in metrics), "best_epoch", "epochs", "seconds", "starts",
            "crashes", "node", "error", *outcome.space.names]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for trial in ranked:
        best = trial.best(outcome.bigger)
        values = best["values"] if best else trial.values
        found = [best["metrics"][name] for name in metrics] if best else [""] * len(metrics)
        writer.writerow(
            [trial.name, trial.status, *found, best["epoch"] if best else "", trial.epoch, round(trial.seconds, 3),
             trial.starts, trial.crashes, trial.node or "", trial.error or "",
             *(_cell(values.get(name)) for name in outcome.space.names)]
        )  # fmt: skip
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value
