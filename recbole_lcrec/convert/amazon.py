"""The Amazon review data of 2014, 2018 and 2023, as its publishers hand it out.

| release | reviews | ratings only (no header before 2023) | metadata |
|---|---|---|---|
| 2014 | reviews_<Category>.json.gz, reviews_<Category>_5.json.gz | ratings_<Category>.csv: user,item,rating,timestamp | meta_<Category>.json.gz, Python literals |
| 2018 | <Category>.json.gz, <Category>_5.json.gz | <Category>.csv: item,user,rating,timestamp | meta_<Category>.json.gz, some items twice |
| 2023 | <Category>.jsonl.gz | <Category>.csv.gz: user_id,parent_asin,rating,timestamp | meta_<Category>.jsonl.gz |

Timestamps stay as they are: seconds until 2018, milliseconds in 2023.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_lcrec.convert.amazon_ratings import RatingsLines
from recbole_lcrec.convert.intake import Part
from recbole_lcrec.convert.reading import existing_file, json_object, numbered_lines
from recbole_lcrec.convert.records import Interaction, Rejection, clean, id_token, number
from recbole_lcrec.utils.errors import UserError

_FIRST_LINES = 20  # looked at to tell JSON from CSV


@dataclass(frozen=True)
class Release:
    """How one release names its files and fields.

    Attributes:
        user: Field of the user; likewise ``item``, ``rating``, ``time``, ``review`` and ``categories``.
        csv: Meaning of the columns of a ratings file without header.
        review_files: Pattern of the names of files with reviews or ratings.
        meta_files: Pattern of the names of metadata files.
        loose: Whether lines may be Python literals.
    """

    user: str
    item: str
    rating: str
    time: str
    review: str
    categories: str
    csv: tuple[str, ...]
    review_files: str
    meta_files: str
    loose: bool


_OLD = ("reviewerID", "asin", "overall", "unixReviewTime", "reviewText")
_META_OLD = r"meta_.+\.json(\.gz)?"
RELEASES = {
    "amazon2014": Release(
        *_OLD, "categories", ("user", "item", "rating", "time"),
        r"reviews_.+\.json(\.gz)?|ratings_.+\.csv(\.gz)?", _META_OLD, True,
    ),
    "amazon2018": Release(
        *_OLD, "category", ("item", "user", "rating", "time"), r"(?!meta_).+\.(json|csv)(\.gz)?", _META_OLD, False,
    ),
    "amazon2023": Release(
        "user_id", "parent_asin", "rating", "timestamp", "text", "categories", ("user", "item", "rating", "time"),
        r"(?!meta_).+\.(jsonl|csv)(\.gz)?", r"meta_.+\.jsonl(\.gz)?", False,
    ),
}  # fmt: skip


class AmazonSource:
    """A review or ratings file of one release, with its metadata file."""

    item_fields: tuple[str, ...] = ("title", "description", "brand", "categories")
    has_ratings = True
    carried: Mapping[str, Path] = {}

    def __init__(self, kind: str, given: Path, meta: str | None, show: bool) -> None:
        """Find the files.

        Args:
            kind: Name of the release, a key of RELEASES.
            given: The review or ratings file, or a folder with one of them and one metadata file.
            meta: The metadata file; "none" to do without item text; None to find it in the folder.
            show: Whether to show progress bars.

        Raises:
            UserError: When files are missing or cannot be told apart.
        """
        self.kind, self._release, self._show = kind, RELEASES[kind], show
        reviews, found = self._find(given, meta)
        self.files = {"interactions": reviews}
        if found is None:
            self.item_fields = ()
        else:
            self.files["items"] = found
        self._json = _holds_objects(reviews)
        self.has_reviews = self._json

    def _find(self, given: Path, meta: str | None) -> tuple[Path, Path | None]:
        if given.is_dir():
            names = sorted(path.name for path in given.iterdir() if path.is_file())
            reviews = given / self._only(given, names, self._release.review_files, "reviews or ratings")
            if meta is None:
                meta = str(given / self._only(given, names, self._release.meta_files, "metadata"))
        else:
            reviews = existing_file(given, "reviews or ratings")
            if meta is None:
                raise UserError(f"{given} is a file: name its metadata too, --meta=FILE, or --meta=none for no text.")
        return reviews, None if meta == "none" else existing_file(Path(meta), "metadata")

    def _only(self, folder: Path, names: list[str], pattern: str, what: str) -> str:
        found = [name for name in names if re.fullmatch(pattern, name)]
        if len(found) == 1:
            return found[0]
        problem = f"several files with {what}: {', '.join(found)}" if found else f"no file with {what}"
        advice = "Give the review file instead of the folder, and --meta=FILE (or --meta=none)."
        seen = f" It holds: {', '.join(names[:10]) or 'nothing'}." if not found else ""
        raise UserError(f"{folder}: {problem} named as in {self.kind} ({pattern}).{seen} {advice}")

    def interactions(self, part: Part) -> Iterator[Interaction]:
        """Yield the reviews or ratings in file order."""
        parsed = self._from_json if self._json else RatingsLines(self._release.csv, self.kind, part.name)
        for where, line in numbered_lines(self.files["interactions"], self._show):
            if line.isspace():
                part.blank += 1
                continue
            try:
                interaction = parsed(line, part)
            except Rejection as rejection:
                part.read += 1
                part.reject(str(where), str(rejection), line)
                continue
            if interaction is None:
                continue
            part.read += 1
            part.passed += 1
            yield interaction
        if isinstance(parsed, RatingsLines):
            parsed.judge_order()

    def _from_json(self, line: bytes, part: Part) -> Interaction:
        release = self._release
        record = json_object(line, loose=release.loose)
        if not part.passed and release.user not in record:
            self._refuse_other_release(record, part)
        get = record.get
        user, item = id_token(get(release.user), release.user), id_token(get(release.item), release.item)
        time, rating = number(get(release.time), release.time), number(get(release.rating), release.rating)
        review = get(release.review)
        return Interaction(user, item, time, rating, review if isinstance(review, str) else "")

    def _refuse_other_release(self, record: dict[str, Any], part: Part) -> None:
        fits = [kind for kind, other in RELEASES.items() if {other.user, other.item, other.time} <= record.keys()]
        if fits:
            raise UserError(
                f"{part.name}: its fields are those of {' or '.join(fits)} ({', '.join(sorted(record)[:8])}), "
                f"not of {self.kind}. Give that kind instead."
            )

    def items(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Yield the metadata records in file order."""
        release = self._release
        for where, line in numbered_lines(self.files["items"], self._show):
            if line.isspace():
                part.blank += 1
                continue
            part.read += 1
            try:
                record = json_object(line, loose=release.loose)
                token = id_token(record.get(release.item), release.item)
            except Rejection as rejection:
                part.reject(str(where), str(rejection), line)
                continue
            part.passed += 1
            yield token, record

    def item_text(self, record: Any) -> dict[str, str]:
        """Return title, description, brand and categories of a metadata record.

        Titles of 2018 that are page scripts (they contain "getTime") count as absent, as its publishers advise.
        Categories of several paths are joined, each name once.
        """
        title = clean(record.get("title"))
        return {
            "title": "" if "getTime" in title else title,
            "description": clean(record.get("description")),
            "brand": self._brand(record),
            "categories": ", ".join(dict.fromkeys(_leaves(record.get(self._release.categories)))),
        }

    def _brand(self, record: dict[str, Any]) -> str:
        if self.kind == "amazon2023":
            details = record.get("details")
            return clean(record.get("store")) or clean(details.get("Brand") if isinstance(details, dict) else None)
        brand = record.get("brand")
        # 2018 has "by\n    \n    Brand", cut from the page
        return clean(re.sub(r"^by\s*\n", "", brand) if isinstance(brand, str) else brand)


def _holds_objects(path: Path) -> bool:
    """Whether the first lines are JSON; one good line among them is enough, as the first may be broken.

    Raises:
        UserError: For an empty file and for a JSON array.
    """
    lines = (line.lstrip() for _, line in numbered_lines(path, False))
    starts = [line[:1] for line in islice(filter(None, lines), _FIRST_LINES)]
    if not starts:
        raise UserError(f"{path} is empty.")
    if starts[0] == b"[":
        raise UserError(f"{path} starts with '[', a JSON array; expected one JSON object per line.")
    return b"{" in starts


def _leaves(value: Any) -> Iterator[str]:
    """Yield the cleaned strings of nested lists."""
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    elif text := clean(value):
        yield text
