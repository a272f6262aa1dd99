"""Samples of one user in one row (``nest_histories``): a history is run once for all samples that begin with it.

A user's n-th history is the beginning of the next one, and each of them is the prompt of a sample. In one wording, the
samples of a user form one row: the longest history and, after each item at which a sample's history ends, the rest of
that sample: the end of its instruction, and its response. That rest stands aside (see ``Sample``): it sees the
instruction and the history up to its item, and nothing that follows sees it. Losses and gradients are those of the
separate samples; but one wording is drawn for a user's samples together, and they share a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recbole_lcrec.instruction.prompts import Context, PromptBuilder, Sample
from recbole_lcrec.instruction.sources import Sequences, SequenceSource
from recbole_lcrec.instruction.templates import Template, pieces

MOST = 8
"""Most samples of a row: the cost of attention grows with the square of a row's length."""


def nests(template: Template) -> bool:
    """Return whether the history is the only placeholder in a wording's instruction."""
    return [part for is_field, part in pieces(template.instruction) if is_field] == ["history"]


def nested_rows(
    builder: PromptBuilder, source: SequenceSource, drawn: Sequence[tuple[int, Template, Context]], most: int
) -> Iterator[Sample]:
    """Yield the samples of an epoch; those that nest, in the wording of the longest of them, share a row.

    Args:
        builder: The prompt builder.
        source: What the samples are made from.
        drawn: Number, wording and context of each sample.
        most: Most samples of a row.
    """
    rows = np.array([row for row, _, _ in drawn], np.int64)
    fields = sorted({field for _, template, _ in drawn for field in template.fields})
    there = {field: source.has(field, rows) for field in fields}
    for chain in chains(source.sequences, rows, most):
        template = drawn[chain[-1]][1]
        suited = np.logical_and.reduce([there[field][chain] for field in template.fields])
        together, alone = chain[suited], chain[~suited]
        row = None
        if len(together) > 1 and nests(template):
            row = nested(builder, template, [drawn[place][2] for place in together])
        if row is not None:
            yield row
        for place in chain if row is None else alone:
            yield builder.sample(*drawn[place][1:])


def chains(sequences: Sequences, rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield groups of samples of one user, each of which begins with the history of the one before it.

    Args:
        sequences: The training samples of the split.
        rows: Samples of an epoch, int64 [n], in any order.
        most: Most samples of a group.

    Yields:
        Places in ``rows``, shortest history first.
    """
    first = rows - (sequences.user_samples[rows] - 1 - sequences.from_end[rows])
    # as long as a history grows by one item per sample, no oldest item has been dropped
    lost = rows - first - sequences.lengths[rows]
    order = np.lexsort((rows, lost, first))
    new = (np.diff(first[order]) != 0) | (np.diff(lost[order]) != 0)
    for group in np.split(order, np.flatnonzero(new) + 1):
        yield from (group[start : start + most] for start in range(0, len(group), most))


def nested(builder: PromptBuilder, template: Template, contexts: Sequence[Context]) -> Sample | None:
    """Return the samples of a chain as one row; None if they do not nest or the longest is too long.

    Args:
        builder: The prompt builder.
        template: A wording that nests.
        contexts: What each sample is filled with, shortest history first.
    """
    before, between, behind = builder.around(template)
    history = contexts[-1].history
    lengths = [len(context.history) for context in contexts]
    if any(not np.array_equal(context.history, history[:n]) for context, n in zip(contexts, lengths, strict=True)):
        return None
    responses = [builder.response(template, context) for context in contexts]
    items = builder.items(history)
    width = items.shape[1] + len(between)
    longest = len(before) + len(items) * width + len(behind) + max(map(len, responses))
    if longest > builder.settings.max_length or len(set(lengths)) < len(lengths):
        return None
    trunk = np.concatenate([items, np.broadcast_to(between, (len(items), len(between)))], axis=1)
    parts, weights, aside, done = [before], [np.zeros(len(before), np.float32)], [np.zeros(len(before), bool)], 0
    for length, response in zip(lengths, responses, strict=True):
        # the separator after an item belongs to the rest of the history
        until = length * width - len(between)
        ids = trunk.reshape(-1)[done:until]
        parts += [ids, behind, response]
        weights += [np.zeros(len(ids) + len(behind), np.float32), np.ones(len(response), np.float32)]
        aside += [np.zeros(len(ids), bool), np.ones(len(behind) + len(response), bool)]
        done = until
    return Sample(np.concatenate(parts), np.concatenate(weights), np.concatenate(aside), len(contexts))
