"""Small raw files as their publishers write them, and a way to run the converter on them."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.convert.__main__ import main


def run(kind: str, given: Path, output: Path, *options: str) -> tuple[int, Path]:
    """Convert to the data set "x"; return the exit status and its folder."""
    return main([kind, str(given), "--name=x", f"--output={output}", "--no-progress", *options]), output / "x"


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def statistics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "x.statistics.json").read_text(encoding="utf-8"))


def write_lines(path: Path, rows: list[Any], *, packed: bool = False) -> Path:
    """Write objects as JSON and strings as they are, one per line."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode("utf-8"))
    return path


def old_review(user: str, item: str, time: int, rating: float = 5.0, text: str = "fine") -> dict[str, Any]:
    return {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating, "reviewText": text}


def new_review(user: str, item: str, time: int, rating: float = 5.0, text: str = "fine") -> dict[str, Any]:
    # the product variant (asin) is not the item: reviews are pooled by parent_asin
    return {
        "user_id": user,
        "parent_asin": item,
        "asin": "V" + item,
        "timestamp": time,
        "rating": rating,
        "text": text,
    }


def write_csv(path: Path, rows: list[list[Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def random_rows(seed: int = 0, n: int = 3000) -> list[tuple[str, str, int, float]]:
    """Return interactions with repeated pairs and many equal timestamps."""
    rng = np.random.default_rng(seed)
    users, items = rng.zipf(1.5, n) % 300, rng.zipf(1.4, n) % 80
    times, ratings = rng.integers(0, 40, n), rng.integers(1, 6, n)
    return [(f"u{u}", f"i{i}", int(t), float(r)) for u, i, t, r in zip(users, items, times, ratings, strict=True)]
