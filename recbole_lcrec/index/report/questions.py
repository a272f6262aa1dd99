"""What users ask of an item index, answered with the figures of the index at hand."""

from __future__ import annotations

from typing import Any

from recbole_lcrec.index.report.advice import AVOIDABLE_COLLISIONS, DUPLICATES


def questions_of(quality: dict[str, Any]) -> list[tuple[str, str]]:
    """Return questions with their answers, free of markup characters."""
    return [
        ("What collision rate is acceptable?", _rate(quality)),
        ("Why does everything fall on one code?", _one_code(quality)),
        ("Which checkpoint, or which of several indices, should I take?", _which(quality)),
        ("What should I do about duplicates?", _duplicates(quality)),
    ]


def _rate(quality: dict[str, Any]) -> str:
    collisions = quality["collisions"]
    here = ""
    if collisions["rate_before"] is not None:
        here = f" Here it is {collisions['rate_before']:.1%}"
        if collisions["rate_equal_embeddings"] is not None:
            here += f", of which equal embeddings explain {collisions['rate_equal_embeddings']:.1%}"
        here += "."
    return (
        "In the finished index only 0: the model names an item by its path, so two items with one path cannot both be "
        "recommended. The mapping sees to that. What counts is the rate before it, the share of items whose last code "
        f"was chosen to be free rather than to be nearest.{here} As a rule of thumb, nothing needs to be done under "
        f"5%. Above {AVOIDABLE_COLLISIONS:.0%}, not counting equal embeddings, train longer (rqvae_epochs) or use "
        "more codes (codebook_size, num_levels). Where a further level only tells items apart, more is harmless."
    )


def _one_code(quality: dict[str, Any]) -> str:
    uses = [(level["level"], level["before"] or level["after"]) for level in quality["levels"]]
    shares = ", ".join(f"{use['top_share']:.1%} on level {number}" for number, use in uses)
    return (
        f"Here the most frequent code of each level has {shares} of the items. If one code has nearly all: first look "
        "whether many embeddings are equal or nearly so (empty texts, the same boilerplate in every description, a "
        "wrong file), as no quantizer can spread equal inputs. If embeddings differ, the quantizer collapsed: lower "
        "rqvae_learning_rate and raise rqvae_epochs. Unused codes are started again while training, so that a short "
        "training leaves more of them dead."
    )


def _which(quality: dict[str, Any]) -> str:
    relative = (quality["reconstruction"] or {}).get("relative_error")
    near = (quality["neighbours"] or {}).get("prefixes")
    known = []
    if relative is not None:
        known.append(f"relative error {relative:.3f}")
    if quality["collisions"]["rate_before"] is not None:
        known.append(f"collision rate before the mapping {quality['collisions']['rate_before']:.3f}")
    known += [f"lift {p['lift']:,.0f} at prefix length {p['length']}" for p in near or [] if p["lift"] is not None]
    here = f" Here: {'; '.join(known)}." if known else ""
    return (
        "Within one training the state with the lowest sum of collision rate before the mapping and relative "
        "reconstruction error is kept, so there is nothing to choose. Between several indices (seeds, sizes, "
        "encoders) compare that same sum, and then how many near neighbours share the first codes. Never go by the "
        "collision rate alone: random codes hardly ever collide and mean nothing. Nor by the training loss: it can "
        f"fall while codes fall out of use.{here} The last word has the recommender's validation metric."
    )


def _duplicates(quality: dict[str, Any]) -> str:
    equal, n = quality["duplicates"]["equal_embeddings"], quality["items"]
    here = "" if equal is None else f" Here {equal:,} of {n:,} items ({equal / n:.1%}) repeat an earlier embedding."
    return (
        "Items with equal embeddings get paths that differ by necessity and not by meaning; the model can only "
        f"learn them by heart from interactions.{here} Up to about {DUPLICATES:.0%} leave them be. If they are one "
        "product listed twice, merge them in the .inter and .item files. If they are different products, add a field "
        "that tells them apart (item_text_fields: brand, size, category). Items with equal titles but different "
        "embeddings need nothing."
    )
