"""What the figures of an index mean, in words: one warning per thing that is out of the ordinary, and what to do.

The thresholds are all here. They are set so that a sound index of 12, 300 or 4,000 items gives no warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIGH_COLLISION_RATE = 0.20  # before the mapping; published indices of Amazon data have 5 to 15%
LARGE_CODE = 0.20  # share of the items on one code of one level, from MANY_ITEMS items on
FEW_CODES = 0.25  # share of a level's codes that are used, where the catalogue could use them
ITEMS_PER_CODE = 8  # a level "could use" its codes if there are so many items for each
OVER_FULL = 0.01  # share of prefixes with more items than last codes
DUPLICATES = 0.05  # share of the items whose embedding another item has too
LOW_LIFT = 3.0  # how many times likelier than chance neighbours share their first code
POOR_RECONSTRUCTION = 0.8  # of the mean predictor's error
MANY_ITEMS = 100


def advice(report: Mapping[str, Any]) -> list[str]:
    """Return warnings in words, most important first; empty when nothing is out of the ordinary."""
    found = [*_of_collisions(report), *_of_levels(report), *_of_meaning(report)]
    return found


def _of_collisions(report: Mapping[str, Any]) -> list[str]:
    before, n_items = report["before_mapping"], report["items"]
    if before is None:
        return []
    warnings = []
    equal = before["equal_embeddings"] or 0
    if equal > DUPLICATES * n_items:
        warnings.append(
            f"{equal:,} of {n_items:,} items have the very same embedding as another item that they share a path "
            "with: no quantizer can tell them apart, and the mapping gives them neighbouring paths in catalogue "
            "order. If they are duplicates in the data (the same product listed twice), merge them; if their texts "
            "are too short, add fields to item_text_fields."
        )
    if before["collision_rate"] > HIGH_COLLISION_RATE:
        warnings.append(
            f"{before['collision_rate']:.1%} of the items shared a path before the mapping (under 10% is usual, above "
            f"{HIGH_COLLISION_RATE:.0%} is much). All paths are unique now, but the last codes of the moved items say "
            "little. Train longer (rqvae_epochs), raise codebook_size or num_levels, or use better embeddings."
        )
    if before["over_full_prefixes"] > OVER_FULL:
        warnings.append(
            f"{before['over_full_prefixes']:.1%} of the prefixes had more items than the last level has codes; the "
            "surplus went to neighbouring prefixes. Raise codebook_size or num_levels."
        )
    return warnings


def _of_levels(report: Mapping[str, Any]) -> list[str]:
    warnings = []
    n_items = report["items"]
    quantized = (report["before_mapping"] or report)["levels"]
    for number, level in enumerate(quantized, 1):
        used, size = level["used"], level["size"]
        if used < FEW_CODES * size and n_items >= ITEMS_PER_CODE * size:
            warnings.append(
                f"level {number} uses {used} of {size} codes: the others carry nothing, and the levels behind it have "
                "to tell the items apart. Usual causes: embeddings that are nearly equal (look at the neighbours "
                "below and at the item text), a learning rate that is too high, or a codebook larger than needed."
            )
        elif n_items >= MANY_ITEMS and level["largest_share"] > LARGE_CODE and size > 2 / LARGE_CODE:
            warnings.append(
                f"level {number}: one code holds {level['largest_share']:.0%} of the items. Usual causes: many items "
                "without text (they all get the mean embedding), or embeddings with one dominant direction."
            )
    return warnings


def _of_meaning(report: Mapping[str, Any]) -> list[str]:
    warnings = []
    neighbours = report["neighbours"]
    if neighbours and report["items"] >= MANY_ITEMS:
        first = neighbours["shared_codes"][0]
        if first["lift"] is not None and first["lift"] < LOW_LIFT and first["chance"] < 1 / LOW_LIFT:
            warnings.append(
                f"an item shares its first code with {first['share']:.1%} of its nearest neighbours, chance gives "
                f"{first['chance']:.1%}: the codes say little about the items. Expected with quantizer=random or cid; "
                "otherwise train the quantizer longer or look at the embeddings."
            )
    error = report["build"].get("relative_error")
    if error is not None and error > POOR_RECONSTRUCTION:
        warnings.append(
            f"the codes rebuild the embeddings hardly better than their mean does (error {error:.2f} of the mean "
            "predictor's). Train longer, raise num_levels or codebook_size, or lower rqvae_loss_weight."
        )
    return warnings
