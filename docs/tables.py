"""The tables of results, from records: docs/results/records/NAME.json fills ``<!-- table: NAME -->`` in the pages.

A record says what made its numbers: command, date, commit, version, machine, seeds and trials, for all of its rows or
in a row of its own; what nobody noted is null, and ``published`` then names the commit that first had the number in a
page. :func:`import_output` makes one of what a comparison or a benchmark wrote. A cell may point to another record:
``{"record": ..., "row": ..., "column": ...}``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

DOCS = Path(__file__).parent
RECORDS = DOCS / "results" / "records"
MADE = ("command", "date", "commit", "version", "machine", "seeds", "trials")
"""What every record of measurements has to say, be it null."""
TABLE = re.compile(r"<!-- table: ([\w-]+) -->\n.*?<!-- /table -->", re.DOTALL)
UNKNOWN = "–"
_HEADS = {"validation": "validation", "epochs": "epochs", "minutes": "minutes", "still_rising": "still rose"}
_NAMES = {"ndcg": "NDCG", "mrr": "MRR", "hit": "Hit", "recall": "Recall"}

Record = Mapping[str, Any]


def filled(page: Path) -> str:
    """Return the text of a page with its tables written anew."""
    return TABLE.sub(lambda found: _block(found[1], page), page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Return the pages that have tables of records."""
    return [
        path for path in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))) if TABLE.search(path.read_text())
    ]


def load(name: str) -> Record:
    """Return a record.

    Raises:
        ValueError: If it does not say what made it.
    """
    record: Record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    if missing := {"columns", "rows"} - record.keys():
        raise ValueError(f"{name}.json has no {', '.join(sorted(missing))}")
    for row in record["rows"]:
        points = any(isinstance(cell, dict) and "record" in cell for cell in row.values())
        if not points and (missing := set(MADE) - record.keys() - row.keys()):
            raise ValueError(f"{name}.json does not say {', '.join(sorted(missing))}: null where it is not known")
    return record


def add(source: Path, name: str) -> Path:
    """Write the record of an output (:func:`import_output`); return its path. A record of this name is replaced."""
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(import_output(source), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    load(name)
    return path


def import_output(source: Path) -> dict[str, Any]:
    """Return the record of a comparison's folder, or of the file that a benchmark wrote with ``--output``."""
    found = json.loads((source / "comparison.json" if source.is_dir() else source).read_text(encoding="utf-8"))
    if "results" in found:
        machine = {name: found.pop(name) for name in ("cores", "threads", "load average", "platform") if name in found}
        found |= {"machine": machine, "seeds": [found.pop("seed")], "trials": None, "rows": found.pop("results")}
    first = found["rows"][0]
    metrics = [name for name in first if "@" in name]
    shown = ["model", *metrics, *_HEADS] if "model" in first else list(first)
    if any(row.get("status", "ok") != "ok" for row in found["rows"]):
        shown.append("status")
    return {"columns": {name: _HEADS.get(name) or _head(name) for name in shown}, **found}


def _block(name: str, page: Path) -> str:
    record = load(name)
    columns: Mapping[str, str] = record["columns"]  # field of a row -> heading
    best = {key: _best(key, record["rows"]) for key in columns}
    lines = [_line(columns.values()), "|" + "---|" * len(columns)]
    for row in record["rows"]:
        cells = {key: _cell(key, content(row, key), {**record, **row}) for key in columns}
        lines.append(
            _line(f"**{text}**" if row in best[key] and text != UNKNOWN else text for key, text in cells.items())
        )
    link = Path(os.path.relpath(RECORDS / f"{name}.json", page.parent)).as_posix()
    caption = _caption(record, "\n".join(lines[2:]), link)
    return "\n".join([f"<!-- table: {name} -->", *lines, "", caption, "<!-- /table -->"])


def content(row: Record, key: str) -> Any:
    """Return a cell; one that points to another record gives what is there."""
    cell = row.get(key)
    return _pointed(cell).get(cell["column"]) if _points(cell) else cell


def _points(cell: Any) -> bool:
    return isinstance(cell, dict) and "record" in cell


def _pointed(cell: Record) -> Record:
    record = load(cell["record"])
    return next({**record, **row} for row in record["rows"] if row["model"] == cell["row"])


def _cell(key: str, value: Any, row: Record) -> str:
    if key == "measured":
        return _measured(row)
    known = [one for one in value if one is not None] if isinstance(value, list) else [value]
    if not known or known == [None]:
        return UNKNOWN
    if isinstance(known[0], bool):
        return "yes" if any(known) else "no"
    if isinstance(known[0], str) or key == "seeds":
        return ", ".join(map(str, known)).replace("|", "\\|")
    if key == "epochs":
        return " to ".join(str(one) for one in sorted({min(known), max(known)}))
    spread = f" ± {_number(key, stdev(known))}" if len(known) > 1 and _is_metric(key) else ""
    return _number(key, fmean(known) if isinstance(value, list) else value) + spread


def _number(key: str, value: float) -> str:
    if _is_metric(key):
        return f"{value:.4f}".removeprefix("0")
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return str(value) if len(str(value)) < 6 else f"{value:#.3g}"


def _is_metric(key: str) -> bool:
    return "@" in key or key.startswith(("test", "validation"))


def _best(key: str, rows: Sequence[Record]) -> list[Record]:
    """Return the rows with the highest value of a metric, none for other columns."""
    if "@" not in key:
        return []

    def value(row: Record) -> float:
        found = content(row, key)
        return fmean(found) if isinstance(found, list) and found else found if isinstance(found, float) else -1.0

    highest = max(map(value, rows))
    return [row for row in rows if value(row) == highest]


def _measured(row: Record) -> str:
    if row.get("commit"):
        return f"`{row['commit']}`, {row['date']}"
    published = row.get("published")
    return f"before `{published['commit']}`, {published['date']}" if published else UNKNOWN


def _caption(record: Record, rows: str, link: str) -> str:
    """Return the line below a table; what the rows say themselves is left out."""
    if "commit" not in record:
        found = {_measured(_pointed(cell)) for row in record["rows"] for cell in row.values() if _points(cell)}
        of_date: dict[str, list[str]] = {}
        for commit, _, date in sorted(one.partition(", ") for one in found):
            of_date.setdefault(date, []).append(commit)
        said = ["Measured: " + "; ".join(f"{', '.join(made)} ({date})" for date, made in sorted(of_date.items()))]
    else:
        shown = record["columns"]
        said = [] if "measured" in shown else [f"Measured: {_measured(record)} (version {record['version']})"]
        if record["machine"] is not None:
            said.append(f"machine: {_text(record['machine'])}")
        of_choice = [name for name in ("seeds", "trials") if "model" in shown and name not in shown]
        said += [f"{name}: {_text(record[name])}" for name in of_choice]
    if UNKNOWN in rows:
        said.append(f"{UNKNOWN}: not recorded")
    if "before `" in "".join([rows, *said]):
        said.append("*before*: first published in that commit, the one of the measurement was not recorded")
    return f"<small>{'; '.join(said)}. [Commands and all fields]({link})</small>"


def _text(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _head(name: str) -> str:
    metric, at, k = name.partition("@")
    return _NAMES.get(metric, metric.replace("_", " ")) + at + k


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
