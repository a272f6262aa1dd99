"""report.html: a comparison on one page, every figure with a sentence on how to read it, nothing from elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from recbole_lcrec.comparison import figures
from recbole_lcrec.comparison.leaderboard import Board, cell, cost_cells, describes, display
from recbole_lcrec.comparison.plan import RUNS, Plan
from recbole_lcrec.comparison.results import ModelResult, is_ranked, per_user, targets
from recbole_lcrec.comparison.slices import Slice, overlap, slices
from recbole_lcrec.comparison.statistics import LEVEL, RESAMPLES, PairTest
from recbole_lcrec.io import write_text
from recbole_lcrec.webpage import page_head, table

REPORT = "report.html"


def write_report(plan: Plan, board: Board, tests: Mapping[str, Sequence[PairTest]], threads: int) -> None:
    """Write report.html into the comparison's folder.

    Args:
        plan: What was run.
        board: The models in order.
        tests: Metric -> tests of every pair.
        threads: torch threads of each run.
    """
    write_text(plan.output_dir / REPORT, report_page(plan, board, tests, threads))


def report_page(plan: Plan, board: Board, tests: Mapping[str, Sequence[PairTest]], threads: int) -> str:
    """Return the page; arguments as for :func:`write_report`."""
    tint = figures.colours([result.label for result in board.results if result.runs])
    sections = [
        ("leaderboard", "Leaderboard", _leaderboard(board, tint)),
        ("significance", "Which differences are significant", _significance(board, tests)),
        ("slices", "By history length and popularity", _slices(board, tint)),
        ("overlap", "Who finds the same", _overlap(board)),
        ("beyond", "What the lists are like", _beyond(board)),
        ("curves", "Learning curves", _curves(board, tint)),
        ("costs", "Costs", _costs(board, tint)),
        ("made", "How this was made", _made(plan, board, threads)),
    ]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    body = "\n".join(f'<section id="{anchor}"><h2>{title}</h2>{text}</section>' for anchor, title, text in sections)
    title = f"Comparison on {plan.dataset}"
    return (
        f"{page_head(title, _CSS)}<body>\n<main>\n<h1>{escape(title)}</h1>\n{_summary(plan, board)}\n"
        f"<nav>{links}</nav>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _summary(plan: Plan, board: Board) -> str:
    done = [result for result in board.results if result.runs]
    failed = [result for result in board.results if result.failures]
    users = len(per_user(done, board.main)) if done and is_ranked(board.main) else 0
    tiles = [
        (f"{len(done)} of {len(board.results)}", "models with results"),
        (f"{len(plan.seeds)}", "seed(s) each"),
        (f"{users:,}" if users else "unknown", "test users"),
        (escape(done[0].label) if done else "none", f"highest {display(board.main)}"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    notes = "".join(
        f'<p class="warning">{escape(result.label)} failed: '
        + escape("; ".join(f"seed {seed}: {reason}" for seed, reason in result.failures.items()))
        + "</p>"
        for result in failed
    )
    return f'<div class="tiles">{cells}</div>{notes}'


def _leaderboard(board: Board, tint: Mapping[str, str]) -> str:
    if not tint:
        return '<p class="warning">No run succeeded.</p>'
    names = [name for name in board.metrics if not describes(name)]
    places = {name: board.places(name) for name in names}
    rows = []
    for result in board.results:
        row = [f'<span class="dot" style="background:{tint.get(result.label, "#fff")}"></span>{escape(result.label)}']
        for name in names:
            text = _two_lines(cell(board, result.label, name))
            place = places[name].get(result.label)
            row.append(f"<b>{text}</b>" if place == 0 else f"<u>{text}</u>" if place == 1 else text)
        rows.append([*row, f"{len(result.runs)}", escape(result.status)])
    spread = any(std is not None for row in board.cells.values() for _, std in row.values())
    return (
        f'<p class="read">How to read it: means over the seeds{" ± their standard deviation" if spread else ""}, test '
        f"users only, ordered by {display(board.main)}, the metric that chose each model's best epoch on the "
        "validation users. Bold is the highest, underlined the second; whether they differ is the next section's "
        "matter. Metrics of RecBole are its own numbers; the others come from the ranks.</p>"
        + figures.score_figure(board, tint)
        + table(["model", *map(display, names), "seeds", "status"], rows)
    )


def _two_lines(text: str) -> str:
    """Return mean and deviation below each other: eight metrics side by side leave no room."""
    mean, sign, std = text.partition(" ± ")
    return (mean or "–") + (f'<br><small class="quiet">± {std}</small>' if sign else "")


def _significance(board: Board, tests: Mapping[str, Sequence[PairTest]]) -> str:
    main = tests.get(board.main, [])
    if not main:
        return "<p>Left out: it takes two models with ranks.</p>"
    several = max(len(result.runs) for result in board.results) > 1
    seeds = (
        "Each user's value is the mean over the seeds first; the spread over seeds stands in the leaderboard."
        if several
        else "<b>There is one seed: how far a second training would land elsewhere is not known here at all.</b> "
        "Run the comparison with --seeds=1,2,3 before claiming that one method is better than another."
    )
    labels = [result.label for result in board.results if any(result.label in (t.first, t.second) for t in main)]
    others = "".join(
        f"<details><summary>{display(name)}</summary>{_matrix(labels, found)}</details>"
        for name, found in tests.items()
        if name != board.main and found
    )
    return (
        f'<p class="read">How to read it: row minus column, {display(board.main)}, mean over {main[0].users:,} users. '
        f"Blue: the row's model is better, orange: worse, p below {LEVEL} in a paired t-test per user after Holm's "
        "correction for all pairs of the metric; grey: not told apart. In brackets the 95% interval of the paired "
        f"bootstrap ({RESAMPLES:,} draws of users), which is not corrected.</p>"
        f"<p>What it shows: whether <i>these trained models</i> differ on users such as the tested ones. "
        f"What it does not show: that the method is better on other data, with other settings, or with more tuning. "
        f"{seeds} Grey is no proof of being equal.</p>"
        + _matrix(labels, main)
        + f"<h3>Other metrics</h3>{others}<p>All numbers are in significance.csv.</p>"
    )


def _matrix(labels: Sequence[str], tests: Sequence[PairTest]) -> str:
    found: dict[tuple[str, str], tuple[PairTest, int]] = {}
    for test in tests:
        found[test.first, test.second], found[test.second, test.first] = (test, 1), (test, -1)
    rows = []
    for row in labels:
        cells = [f"<b>{escape(row)}</b>"]
        for column in labels:
            if (row, column) not in found:
                cells.append("")
                continue
            test, sign = found[row, column]
            ends = sorted((sign * test.low, sign * test.high))
            kind = "same" if not test.significant else "better" if sign * test.difference > 0 else "worse"
            cells.append(
                f'<div class="{kind}"><b>{sign * test.difference:+.4f}</b><br>[{ends[0]:+.4f}, {ends[1]:+.4f}]<br>'
                f"p {_p(test.p_holm)}</div>"
            )
        rows.append(cells)
    return f'<div class="matrix">{table(["", *map(escape, labels)], rows)}</div>'


def _p(value: float) -> str:
    return "&lt; .0001" if value < 1e-4 else f"= {value:.4f}".replace("0.", ".", 1) if value < 1 else "= 1"


def _slices(board: Board, tint: Mapping[str, str]) -> str:
    known = targets(board.results)
    values = per_user(board.results, board.main).dropna()
    if known is None or values.empty:
        return "<p>Left out: no ranks.</p>"
    by_history = slices(values, known["history"])
    by_popularity = slices(values, known["popularity"], zero="0, cold")
    cold = next((one for one in by_popularity if one.name == "0, cold"), None)
    about_cold = (
        f"{cold.users:,} users have a cold target: nobody interacted with it in training, so only models that know "
        "items by their text can find it."
        if cold
        else "No target is cold: all of them have training interactions."
    )
    title = "the user's interactions before the test (users in brackets)"
    popular = "training interactions of the target (users in brackets)"
    return (
        f'<p class="read">How to read it: {display(board.main)} by group, in groups of about equal size; lines are '
        f"one standard error over users. {about_cold}</p><h3>Users by length of their history</h3>"
        + figures.slice_figure("history", by_history, tint, title, board.main)
        + _slice_table(by_history, "interactions")
        + "<h3>Targets by popularity</h3>"
        + figures.slice_figure("popularity", by_popularity, tint, popular, board.main)
        + _slice_table(by_popularity, "training interactions")
    )


def _slice_table(found: Sequence[Slice], name: str) -> str:
    labels = list(found[0].mean)
    rows = [
        [one.name, f"{one.users:,}", *(f"{one.mean[label]:.4f} ± {one.error[label]:.4f}" for label in labels)]
        for one in found
    ]
    head = [name, "users", *map(escape, labels)]
    return f"<details><summary>As a table</summary>{table(head, rows)}</details>"


def _overlap(board: Board) -> str:
    found = overlap(board.results)
    if found is None:
        return "<p>Left out: it takes two models with ranks of the same seed.</p>"
    head = ["", *map(escape, found.labels)]

    def rows(matrix: np.ndarray) -> list[list[str]]:
        lines = []
        for i, label in enumerate(found.labels):
            cells = [_shade(value) if i != j else "" for j, value in enumerate(matrix[i])]
            lines.append([f"<b>{escape(label)}</b>", *cells])
        return lines

    alone = [[escape(label), f"{share:.1%}"] for label, share in zip(found.labels, found.alone, strict=True)]
    return (
        f'<p class="read">How to read it: a target is found when it stands in the list of {found.length}. Of the '
        "targets that the row's model finds, the share that the column's model finds too; low values mean that the "
        "two know different things, and that an ensemble could gain. Means over the seeds.</p>"
        f'<h3>Targets found by both</h3><div class="matrix">{table(head, rows(found.found_too))}</div>'
        f'<h3>Places of the lists with the same items</h3><div class="matrix">{table(head, rows(found.lists))}</div>'
        f"<h3>Targets found by one model only</h3>{table(['model', 'share of all users'], alone)}"
        f"<p>Some model finds the target of {found.any:.1%} of the users.</p>"
    )


def _shade(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f'<div class="shade" style="background:rgba(63,124,172,{0.06 + 0.5 * value:.2f})">{value:.0%}</div>'


def _beyond(board: Board) -> str:
    names = [name for name in board.metrics if describes(name)]
    if not names:
        return "<p>Left out: no ranks.</p>"
    rows = [
        [escape(result.label), *(cell(board, result.label, name) or "–" for name in names)]
        for result in board.results
        if result.runs
    ]
    return (
        '<p class="read">How to read it: coverage is the share of the catalogue that stands in any list; Gini is 0 '
        "when all items are recommended equally often and 1 when one item takes everything; popularity is the mean "
        "number of training interactions of the recommended items; novelty the mean of -log2 of an item's share of "
        "all training interactions, in bits (more is less expected). None of them asks whether a list is right: "
        "random lists have the best values. RecBole's ItemCoverage and GiniIndex count the padding as an item.</p>"
        + table(["model", *map(display, names)], rows)
    )


def _curves(board: Board, tint: Mapping[str, str]) -> str:
    drawn = figures.curve_figure([result for result in board.results if result.runs], tint, board.main)
    if not drawn:
        return "<p>Left out: no run was validated while it trained.</p>"
    return (
        '<p class="read">How to read it: a line per run; a point per validation. A line that still rises at its end '
        "was stopped by the number of epochs: that model is under-trained here. Validations may look at a sample of "
        "the users (option valid_users).</p>" + drawn
    )


def _costs(board: Board, tint: Mapping[str, str]) -> str:
    if not tint:
        return "<p>No run succeeded.</p>"
    rows = []
    for result in board.results:
        if result.runs:
            gpu = result.costs()["gpu_memory_mib"]
            epochs = [str(run.result["epochs"]) for run in result.runs]
            found = [part or "–" for part in cost_cells(result)]
            rows.append(
                [escape(result.label), found[0], ", ".join(epochs), *found[1:], "–" if not gpu else f"{gpu:,.0f}"]
            )
    head = [
        "model",
        "minutes of training",
        "epochs",
        "users/s at the test",
        "parameters",
        "MiB of memory",
        "MiB on the GPU",
    ]
    return (
        '<p class="read">How to read it: minutes are wall time of everything before the test (data, index, training, '
        "validations, pre-training); users per second that of the test. Runs side by side share the machine: "
        "with --jobs above 1, or on a busy machine, times are no measurement. Memory is the most that the process "
        "held.</p>" + figures.cost_figure(board, tint) + table(head, rows)
    )


def _made(plan: Plan, board: Board, threads: int) -> str:
    done = [run for result in board.results for run in result.runs]
    facts: list[tuple[str, str]] = [("data set", escape(plan.dataset))]
    if sys.argv[1:]:
        facts.append(("command", f"<code>{escape('python ' + shlex.join(sys.argv))}</code>"))
    at_once = str(plan.jobs or "as many as the cluster had room for")
    facts += [("seeds", ", ".join(map(str, plan.seeds))), ("runs at once", at_once)]
    if done:
        first = done[0].result
        machine = first["machine"]
        facts += [
            ("split", f"{first['split_sha256']} (SHA-256 of validation and test in raw tokens; equal for all runs)"),
            ("machine", f"{machine['cores']} cores, {threads} torch thread(s) per run"),
            ("versions", ", ".join(f"{name} {version}" for name, version in first["versions"].items())),
        ]
        ranks = next((run.result["ranks"] for run in done if "ranks" in run.result), None)
        if ranks:
            left_out = ", without the items of each user's history" if "exclude_history" in first else ""
            facts.append(("candidates", _candidates(ranks["among"]) + left_out))
    lines = [[escape(result.label), escape(result.entry.model), _options(result)] for result in board.results]
    return (
        table([], facts)
        + "<h3>Models</h3>"
        + table(["label", "model", "options of its own"], lines)
        + f"<p>Every run is in {RUNS}/&lt;label&gt;-&lt;seed&gt;/: config.yaml has all its options, ranks.csv.gz the "
        "rank of every target and the recommended list, for statistics of your own. Ranks beyond a generative model's "
        "beams are marked as censored: the true rank is the one given or a greater one.</p>"
    )


def _candidates(among: str) -> str:
    if among == "full":
        return "the whole catalogue"
    return f"{escape(among)}: targets were ranked among sampled items, which is easier than the whole catalogue"


def _options(result: ModelResult) -> str:
    own = ", ".join(f"{name}={value}" for name, value in result.entry.options.items())
    return f"<code>{escape(own)}</code>" if own else "–"


_CSS = """
main { max-width: 76rem; }
.tiles b { overflow-wrap: anywhere; }
td, th { white-space: nowrap; }
#leaderboard td, #leaderboard th { padding-right: .9rem; }
#made td, #made th { white-space: normal; overflow-wrap: anywhere; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.matrix td, .matrix th { padding: .12rem .18rem; font-size: .74rem; text-align: center; border-bottom: none; }
.matrix th, .matrix td > b { white-space: normal; overflow-wrap: anywhere; max-width: 7rem; }
.matrix td > b { display: block; text-align: left; min-width: 5rem; }
.matrix td div { border-radius: 5px; padding: .22rem .2rem; line-height: 1.3; font-size: .7rem; }
.better { background: #d5e5f2; } .worse { background: #f6e3cf; } .same { background: #eff1f3; color: #6b7783; }
.shade { border-radius: 5px; padding: .2rem .6rem; text-align: center; }
code { font-size: .85rem; overflow-wrap: anywhere; }
"""
