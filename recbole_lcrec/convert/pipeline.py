"""One conversion from source to folder: read, filter, write interactions, items and reviews, and account for all."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import dataclass
from itertools import compress, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_lcrec.convert import selection, writing
from recbole_lcrec.convert.columns import CHUNK, Column, Interactions, Tokens
from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.records import Source, clean
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json

DUPLICATES = ("first", "last", "keep")


@dataclass(frozen=True)
class Settings:
    """What to make of a source.

    Attributes:
        name: Name of the data set, which names its folder and files.
        output: Parent folder, RecBole's ``data_path``.
        k_core: Least number of interactions of every user and item that stays; 0 keeps all.
        duplicates: Which of a user's interactions with one item stays: ``first`` or ``last`` in time, or ``keep``.
        min_rating: Interactions rated lower are left out; None keeps all.
        all_items: Whether items without interactions stay in the ``.item`` file.
        reviews: Whether to write the ``.review`` file; reads the source a second time.
        overwrite: Whether to replace the files of an earlier conversion.
        show_progress: Whether to show progress bars.
    """

    name: str
    output: Path = Path("dataset")
    k_core: int = 0
    duplicates: str = "keep"
    min_rating: float | None = None
    all_items: bool = False
    reviews: bool = False
    overwrite: bool = False
    show_progress: bool = True

    def __post_init__(self) -> None:
        if self.k_core < 0:
            raise UserError(f"--k-core={self.k_core}: expected 0 (no filter) or more.")
        if self.duplicates not in DUPLICATES:
            raise UserError(f"--duplicates={self.duplicates}: expected one of {', '.join(DUPLICATES)}.")
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise UserError(f"--min-rating={self.min_rating}: expected a number.")

    @property
    def folder(self) -> Path:
        """Where the data set goes."""
        return Path(self.output) / self.name


def convert(source: Source, settings: Settings) -> dict[str, Any]:
    """Write a source as a data set; the folder appears whole or not at all.

    Args:
        source: What to read.
        settings: What to make of it.

    Returns:
        The statistics that are also written to ``<name>.statistics.json``: for interactions, items and reviews the
        records read and what became of every one; then the size of the data set and how much of its text is there.

    Raises:
        UserError: For input that cannot be used, an empty result, and a data set that exists already.
    """
    writing.check_target(settings.folder, settings.name, settings.overwrite)
    if settings.min_rating is not None and not source.has_ratings:
        raise UserError(f"--min-rating={settings.min_rating}: the source has no ratings.")
    if settings.reviews and not source.has_reviews:
        raise UserError(f"--reviews: there are no review texts in {source.files['interactions'].name}.")
    with writing.dataset_folder(settings.folder, settings.name, settings.overwrite) as folder:
        stem = folder / settings.name
        rejected = stem.with_name(f"{settings.name}.rejected")
        with rejected.open("wb") as sink:
            statistics = _Conversion(source, settings, stem, sink).run()
        if not rejected.stat().st_size:
            rejected.unlink()
        for suffix, path in source.carried.items():
            shutil.copyfile(path, f"{stem}{suffix}")
        write_json(f"{stem}.statistics.json", statistics)
    return statistics


class _Conversion:
    """The steps of one conversion, sharing source, settings, place and sink."""

    def __init__(self, source: Source, settings: Settings, stem: Path, sink: BinaryIO) -> None:
        self.source, self.settings, self.stem, self.sink = source, settings, stem, sink

    def run(self) -> dict[str, Any]:
        settings = self.settings
        spool = self.stem.with_name(".spool")
        spool.mkdir()
        part = Part(self.source.files["interactions"].name, self.sink)
        data = self._read(part, spool)
        keep, removed = self._filter(data)
        writing.write_interactions(Path(f"{self.stem}.inter"), data, keep, settings.show_progress)
        n_written = int(keep.sum())
        has_item = selection.present(data.items, keep, data.n_items)
        n_users = int(selection.present(data.users, keep, data.n_users).sum())
        tokens = data.item_tokens.reader().take(np.flatnonzero(has_item).tolist())
        del data
        shutil.rmtree(spool)
        files = {role: path.name for role, path in self.source.files.items()}
        statistics: dict[str, Any] = {
            "source": self.source.kind,
            "files": files | {suffix[1:]: path.name for suffix, path in self.source.carried.items()},
            "options": {name: vars(settings)[name] for name in ("k_core", "duplicates", "min_rating", "all_items")},
            "interactions": _counts(part) | removed | {"written": n_written},
            "users": n_users,
            "items": len(tokens),
            "sparsity": 1 - n_written / (n_users * len(tokens)),
            "average_length": n_written / n_users,
        }
        if self.source.item_fields:
            statistics |= self._write_items(tokens)
        if settings.reviews:
            statistics["reviews"] = self._write_reviews(part, keep)
        return statistics

    def _read(self, part: Part, spool: Path) -> Interactions:
        """Put every usable interaction on disk, then give users and items codes."""
        users, items = Tokens(spool, "users"), Tokens(spool, "items")
        times = Column(spool / "times", np.float64)
        ratings = Column(spool / "ratings", np.float64) if self.source.has_ratings else None
        n_rows = 0
        # without the reviews: a chunk of those may be hundreds of megabytes
        records = map(itemgetter(0, 1, 2, 3), self.source.interactions(part))
        while chunk := list(islice(records, CHUNK // 4)):
            columns = list(zip(*chunk, strict=True))
            users.append(columns[0])
            items.append(columns[1])
            times.append(columns[2])
            if ratings is not None:
                ratings.append(columns[3])
            n_rows += len(chunk)
        part.check()
        assert n_rows == part.passed
        user_codes, n_users = users.factorise(n_rows)
        item_codes, n_items = items.factorise(n_rows)
        return Interactions(user_codes, item_codes, times, ratings, n_users, n_items, users, items)

    def _filter(self, data: Interactions) -> tuple[np.ndarray, dict[str, int]]:
        """Return which interactions stay, bool [n], and how many each filter took."""
        settings = self.settings
        keep = np.ones(len(data), bool)
        removed = {"below_min_rating": 0, "repeated_pairs": 0, "outside_k_core": 0}
        if settings.min_rating is not None and data.ratings is not None:
            removed["below_min_rating"] = selection.drop_low_ratings(keep, data.ratings, settings.min_rating)
        if settings.duplicates != "keep":
            removed["repeated_pairs"] = selection.drop_repeated_pairs(keep, data, settings.duplicates)
        if settings.k_core:
            removed["outside_k_core"] = selection.drop_outside_core(keep, data, settings.k_core)
        assert len(keep) == int(keep.sum()) + sum(removed.values())
        if not keep.any():
            raise UserError(
                f"nothing is left of {len(data)} interactions of {data.n_users} users with {data.n_items} items: "
                + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in removed.items())
                + ". Choose a lower --k-core or --min-rating."
            )
        return keep, removed

    def _write_items(self, tokens: list[str]) -> dict[str, Any]:
        """Write the ``.item`` file in the order of the source; return its statistics."""
        fields = self.source.item_fields
        part = Part(self.source.files["items"].name, self.sink)
        written = dict.fromkeys(tokens, False)  # items with interactions, in order of first appearance
        others: set[str] = set()
        fates: Counter[str] = Counter(repeated=0, without_interactions=0, written=0)
        covered: Counter[str] = Counter()
        with open(f"{self.stem}.item", "w", encoding="utf-8", newline="") as file:
            file.write(writing.item_header(fields))
            for token, raw in self.source.items(part):
                known = token in written
                if (known and written[token]) or token in others:
                    fates["repeated"] += 1
                elif known or self.settings.all_items:
                    text = self.source.item_text(raw)
                    file.write(writing.text_line(token, *(text[name] for name in fields)))
                    fates["written"] += 1
                    if known:
                        written[token] = True
                        covered.update(name for name in fields if text[name])
                    else:
                        others.add(token)
                else:
                    fates["without_interactions"] += 1
        part.check()
        lacking = [token for token, done in written.items() if not done]
        if len(lacking) == len(tokens):
            raise UserError(
                f"{part.name}: none of its {part.passed} items has interactions; those in "
                f"{self.source.files['interactions'].name} are named like {tokens[0]!r}. Is it the right file?"
            )
        assert part.passed == fates.total()
        return {
            "item_records": _counts(part) | dict(fates),
            "text_coverage": {name: covered[name] / len(tokens) for name in fields},
            "items_without_metadata": lacking,
        }

    def _write_reviews(self, first: Part, keep: np.ndarray) -> dict[str, int]:
        """Read the source again and write the reviews of the kept interactions, in file order."""
        part = Part(first.name)
        fates = {"written": 0, "without_text": 0}
        with open(f"{self.stem}.review", "w", encoding="utf-8", newline="") as file:
            file.write("user_id:token\titem_id:token\treview:token_seq\n")
            kept = compress(self.source.interactions(part), keep.tobytes())
            for interaction in kept:
                text = clean(interaction.review)
                fates["written" if text else "without_text"] += 1
                if text:
                    file.write(writing.text_line(interaction.user, interaction.item, text))
        if (part.read, part.rejected) != (first.read, first.rejected) or sum(fates.values()) != int(keep.sum()):
            raise UserError(f"{first.name} changed while it was read. Try again when it is complete.")
        return fates


def _counts(part: Part) -> dict[str, Any]:
    return {"read": part.read, "blank_lines": part.blank, "rejected": dict(sorted(part.rejected.items()))}
