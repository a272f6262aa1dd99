"""Warnings in words: which figures of an index are bad enough to say so, why they may be so, and what to do.

All thresholds are here. They are rules of thumb, set so that an index that trained well (Scientific, 4,344 items
with MiniLM embeddings, 4 x 256 codes: 3.5% collisions, relative error 0.39, half of the near neighbours share the
first code) stays far from them, and an index of random or collapsed codes crosses them.
"""

from __future__ import annotations

from typing import Any

LEAST_ITEMS = 50  # below, shares of items say little, and only duplicates and missing titles are warned about
LEAST_USE = 0.5  # used codes / codes that could be used
LEAST_EVENNESS = 0.25  # perplexity / codes that could be used
TOP_SHARE, TOP_FACTOR = 0.2, 8  # the most frequent code's share of the items, and as a multiple of an even share
AVOIDABLE_COLLISIONS = 0.10  # collision rate before the mapping, less what equal embeddings explain
AVOIDABLE_COLLISIONS_SHORT = 0.30  # the same if a further level tells items apart
SURPLUS = 0.005  # share of items beyond the room of their prefix
RELATIVE_ERROR = 0.8  # reconstruction error / error of always predicting the mean
DUPLICATES = 0.05  # share of items whose embedding equals an earlier item's
ABOVE_CHANCE = 0.05  # (share - chance) / (1 - chance) of neighbours that share the first code
LEAST_LIFT = 2.0  # share / chance; both must be low: with few codes the lift cannot be high
RANDOM_RANK = 0.25  # median rank of the codes of displaced items / codes of the last level; random codes give 0.5
MISSING_TITLES = 0.2  # share of items without a title, where others have one


def warnings_of(quality: dict[str, Any]) -> list[dict[str, str]]:
    """Return ``{"code", "text"}`` per warning, worst causes first, for the figures of ``index_quality``."""
    found = [*_duplicates(quality), *_titles(quality)]
    if quality["items"] >= LEAST_ITEMS:
        for level in quality["levels"]:
            found += _code_use(level, quality)
        found += [*_collisions(quality), *_over_full(quality), *_reconstruction(quality)]
        found += [*_neighbours(quality), *_ranks(quality)]
    return [{"code": code, "text": text} for code, text in found]


Warnings = list[tuple[str, str]]


def _duplicates(quality: dict[str, Any]) -> Warnings:
    equal, n = quality["duplicates"]["equal_embeddings"], quality["items"]
    if equal is None or equal <= max(1, DUPLICATES * n):
        return []
    text = (
        f"{equal:,} of {n:,} items ({equal / n:.1%}) have the same embedding as an earlier item: items without "
        "text, or with the same text. No quantizer can tell them apart, and their last codes mean nothing. Add a "
        "text field that differs (item_text_fields), or merge items that are one product."
    )
    return [("duplicates", text)]


def _titles(quality: dict[str, Any]) -> Warnings:
    missing, n = quality["duplicates"]["empty_titles"], quality["items"]
    if missing == n or missing <= MISSING_TITLES * n:
        return []
    text = (
        f"{missing:,} of {n:,} items ({missing / n:.1%}) have no title. Without text, nothing is "
        "known about what an item is like. Check the .item file and item_text_fields."
    )
    return [("titles", text)]


def _code_use(level: dict[str, Any], quality: dict[str, Any]) -> Warnings:
    number = level["level"]
    appended = (quality["inputs"]["nearest_levels"] or len(quality["levels"])) < number
    if appended or level["size"] == 1:  # a level that only tells items apart uses as many codes as it needs
        return []
    fault = _fault_of_use(level, quality["items"])
    if fault is None:
        return []
    kind, text = fault
    if number == len(quality["levels"]) and not quality["inputs"]["nearest_codes"]:
        text += " (A last level that was added only to tell items apart looks like this too, and is not a fault.)"
    return [(f"level {number}: {kind}", f"level {number} {text}")]


def _fault_of_use(level: dict[str, Any], n_items: int) -> tuple[str, str] | None:
    """Return the worst fault of a level, in brief and in full; None if there is none."""
    use, size, expected = level["before"] or level["after"], level["size"], level["expected"]
    limit = f" (a catalogue of {n_items:,} items can use about {expected})" if expected < size else ""
    if use["used"] == 1:
        return "one code", (
            f"gives every item the code {use['top_code']}, so it says nothing. Likely the embeddings are nearly equal "
            "(empty or boilerplate texts, wrong file), or the quantizer collapsed. Look at the texts and embeddings; "
            "then lower rqvae_learning_rate or raise rqvae_epochs."
        )
    if use["used"] < LEAST_USE * expected:
        return "unused codes", (
            f"uses {use['used']} of {size} codes{limit}: most codes are dead. Likely the quantizer collapsed or "
            "stopped early, or there are few distinct texts. Raise rqvae_epochs, lower rqvae_learning_rate, or choose "
            "a smaller codebook_size."
        )
    if use["top_share"] >= max(TOP_SHARE, TOP_FACTOR / expected):
        return "one dominant code", (
            f"gives {use['top_share']:.0%} of all items the code {use['top_code']}. Likely many texts are alike "
            "(boilerplate, empty) or one group of items fills the catalogue. Open that code in the tree below; clean "
            "item_text_fields if its items have nothing in common."
        )
    if use["perplexity"] < LEAST_EVENNESS * expected:
        return "uneven use", (
            f"uses {use['used']} of {size} codes{limit}, but so unevenly that {use['perplexity']:.0f} evenly used "
            "codes would say as much (perplexity): a few codes carry most items. Raise rqvae_epochs, or choose a "
            "smaller codebook_size."
        )
    return None


def _collisions(quality: dict[str, Any]) -> Warnings:
    rate, equal = quality["collisions"]["rate_before"], quality["collisions"].get("rate_equal_embeddings") or 0.0
    if rate is None:
        return []
    short = quality["inputs"]["nearest_levels"] < len(quality["levels"])
    if rate - equal <= (AVOIDABLE_COLLISIONS_SHORT if short else AVOIDABLE_COLLISIONS):
        return []
    known = f", of which equal embeddings explain {equal:.1%}" if equal else ""
    text = (
        f"before the mapping {rate:.1%} of the items had the path of another item{known}. The mapping gave each "
        "its own path, but the codes of so many were not chosen for what the item is. Likely the quantizer is "
        "too coarse or stopped early: raise rqvae_epochs, codebook_size or num_levels."
    )
    return [("collisions", text)]


def _over_full(quality: dict[str, Any]) -> Warnings:
    full = quality["over_full"]
    if full is None or full["surplus_items"] <= SURPLUS * quality["items"]:
        return []
    text = (
        f"{full['prefixes']:,} prefixes hold more items than the {full['room']} codes of the last level: "
        f"{full['surplus_items']:,} items had to leave for another prefix and now share codes with items they are "
        "not like. Raise num_levels or codebook_size, and look for near-duplicates among the largest groups."
    )
    return [("over-full prefixes", text)]


def _reconstruction(quality: dict[str, Any]) -> Warnings:
    relative = (quality["reconstruction"] or {}).get("relative_error")
    if relative is None or relative <= RELATIVE_ERROR:
        return []
    text = (
        f"the reconstruction error is {relative:.2f} of what predicting the mean embedding would give: the codes "
        "say little about the items. Raise rqvae_epochs, lower rqvae_learning_rate, or raise latent_dim; if a level "
        "above has collapsed, fix that first."
    )
    return [("reconstruction", text)]


def _neighbours(quality: dict[str, Any]) -> Warnings:
    first = ((quality["neighbours"] or {}).get("prefixes") or [None])[0]
    if first is None or first["chance"] >= 1:
        return []
    above = (first["share"] - first["chance"]) / (1 - first["chance"])
    if above >= ABOVE_CHANCE or first["share"] >= LEAST_LIFT * first["chance"] > 0:
        return []
    text = (
        f"items that are near each other share the first code in {first['share']:.1%} of cases, random pairs in "
        f"{first['chance']:.1%}: codes hardly follow the embeddings. If the index came from a file, it may belong "
        "to other items or another order of items; else the quantizer learned nothing."
    )
    return [("neighbours", text)]


def _ranks(quality: dict[str, Any]) -> Warnings:
    ranks, room = (quality["mapping"] or {}).get("ranks"), quality["level_sizes"][-1]
    if not ranks or not ranks["displaced"] or ranks["median"] <= max(1, RANDOM_RANK * room):
        return []
    text = (
        f"half of the displaced items got their {ranks['median'] + 1:,}th nearest code or one farther away, of "
        f"{room}: nearly random codes. Too many items compete under the same prefixes. Raise num_levels or "
        "codebook_size."
    )
    return [("displacement", text)]
