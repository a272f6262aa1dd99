"""What is characteristic of an item: its kinds, its brand, and the most telling words of its text."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from recbole_lcrec.data.text import ItemText

KIND_FIELDS = ("categories", "category", "main_cat", "main_category")
GENRE_FIELDS = ("class", "genre", "genres")
BRAND_FIELDS = ("brand", "manufacturer", "author", "artist", "director", "studio", "publisher")

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
_DIGIT = re.compile(r"\d")
_KIND_SEPARATOR = re.compile(r"[,|;>/\[\]\"]|' | '")
_TEXT_WORDS = 120  # the rest of a long description is mostly terms of sale
_TERMS_KEPT = 24
_GENRES_KEPT = 3
_SHOP_WORDS = frozenset(
    "product products item items new use used uses using useful include included includes including pack packs count"
    " inch inches feature features featuring made make makes quality high great good best better ideal perfect"
    " designed design available set sets description size sizes color colors colour please note comes come easy easily"
    " provide provides pcs piece pieces usa brand model number type suitable like also ideally various quantity"
    " package packaging shipping warranty buy customer customers amazon review reviews stars just love really works"
    " don didn doesn isn wasn couldn wouldn especially nearly".split()
)


@lru_cache(maxsize=1)
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) | _SHOP_WORDS


def terms_of(text: str) -> list[str]:
    """Return a text's words and the pairs of adjacent ones; numbers and stop words are skipped and split pairs."""
    terms, before = [], ""
    stop = _stop_words()
    for token in _TOKEN.findall(text.lower()):
        is_word = 3 <= len(token) <= 30 and token not in stop and not _DIGIT.search(token)
        if is_word:
            terms.append(token)
            if before:
                terms.append(f"{before} {token}")
        before = token if is_word else ""
    return terms


@dataclass(frozen=True)
class Trait:
    """What is characteristic of one item.

    Attributes:
        kinds: Its most specific category, or its genres.
        brand: Its maker, "" if unknown.
        terms: (weight, word or pair of words), most telling first.
        name: A few words of its title or else description, for an item that has none of the above.
    """

    kinds: tuple[str, ...]
    brand: str
    terms: tuple[tuple[float, str], ...]
    name: str


class Traits:
    """TF-IDF over the catalogue, applied to single items and reviews.

    Args:
        text: The catalogue's text.

    Attributes:
        rarity: Kind -> inverse document frequency: what nearly all items are says little about a user.
    """

    def __init__(self, text: ItemText) -> None:
        self._text = text
        self._kinds = _kinds(text)
        shared = Counter(kind for kinds in self._kinds for kind in kinds)
        self.rarity = {kind: math.log(1 + len(text.items) / count) for kind, count in shared.items()}
        self._brands = _first_column(text, BRAND_FIELDS)
        n_items = len(text.items)
        document_counts: Counter[str] = Counter()
        for row in range(n_items):
            document_counts.update(set(terms_of(self._document(row))))
        # words of a single item cannot distinguish kinds of items; but in a tiny catalogue, most words are like that
        self._idf = {
            term: math.log((1 + n_items) / (1 + count)) + 1.0
            for term, count in document_counts.items()
            if count > 1 or n_items < 50
        }

    def of(self, row: int) -> Trait:
        """Return what is characteristic of the item at ``row``."""
        title = self._text.titles[row] or self._text.descriptions[row]
        return Trait(
            kinds=self._kinds[row],
            brand=_shortened(self._brands[row], 4) if self._brands else "",
            terms=self.terms(self._document(row)),
            name=_shortened(title, 6),
        )

    def terms(self, text: str) -> tuple[tuple[float, str], ...]:
        """Return (TF-IDF weight, term) of the most telling terms of a text, highest first; all have the norm 1."""
        counts = Counter(term for term in terms_of(text) if term in self._idf)
        weights = {term: (1 + math.log(count)) * self._idf[term] for term, count in counts.items()}
        length = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        ranked = sorted(((weight / length, term) for term, weight in weights.items()), key=lambda x: (-x[0], x[1]))
        return tuple(ranked[:_TERMS_KEPT])

    def _document(self, row: int) -> str:
        """Return title and description; the title twice, since its words are the most telling."""
        title, description = self._text.titles[row], self._text.descriptions[row]
        return f"{title} . {title} . {' '.join(description.split(' ')[:_TEXT_WORDS])}"


def chosen(terms: Iterable[tuple[float, str]], limit: int, *, but: Iterable[str] = ()) -> list[str]:
    """Return the first ``limit`` terms that share no word with each other or with the texts in ``but``."""
    taken = {stem for text in but for stem in _stems(text)}
    found: list[str] = []
    for _, term in terms:
        stems = _stems(term)
        if len(found) < limit and not stems & taken:
            found.append(term)
            taken |= stems
    return found


@lru_cache(maxsize=1 << 16)
def _stems(text: str) -> frozenset[str]:
    return frozenset(token.rstrip("s") for token in _TOKEN.findall(text.lower()))


def _kinds(text: ItemText) -> list[tuple[str, ...]]:
    """Return every item's kinds: for categories, which are nested, the most specific; for genres, the first three.

    The most specific category is the one that the fewest items share, but more than one.
    """
    field = next((name for name in (*KIND_FIELDS, *GENRE_FIELDS) if any(text.columns.get(name, ()))), None)
    if field is None:
        return [()] * len(text.items)
    lists = [_split_kinds(cell, field in GENRE_FIELDS) for cell in text.columns[field]]
    if field in GENRE_FIELDS:
        return [tuple(kinds[:_GENRES_KEPT]) for kinds in lists]
    counts = Counter(kind for kinds in lists for kind in set(kinds))
    return [tuple(sorted(kinds, key=lambda kind: (counts[kind] < 2, counts[kind], kind))[:1]) for kinds in lists]


def _split_kinds(cell: str, by_blanks: bool) -> list[str]:
    parts = [part.strip(" '") for part in _KIND_SEPARATOR.split(cell)]
    if len(parts) == 1 and by_blanks:  # RecBole writes genres as "Action Thriller"
        parts = cell.split(" ")
    return [_lower(part) for part in parts if any(c.isalpha() for c in part) and len(part) <= 40]


def _first_column(text: ItemText, names: Sequence[str]) -> Sequence[str]:
    return next((text.columns[name] for name in names if name in text.columns), ())


def _lower(words: str) -> str:
    """Return words in lower case, except for acronyms."""
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words.split(" "))


def _shortened(text: str, words: int) -> str:
    return " ".join(text.split(" ")[:words])[: 12 * words].strip(" ,.;:-")


def draw(seed: int, *key: object, below: int) -> int:
    """Return a number below ``below`` that depends on nothing but the seed and the key."""
    text = json.dumps([seed, *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % below


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


__all__ = ["Trait", "Traits", "chosen", "draw", "listed", "terms_of"]
