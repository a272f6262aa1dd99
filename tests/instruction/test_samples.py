"""An epoch's samples are a function of (seed, epoch, sample), cover the data evenly, and skip what has no text."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fakes import catalogue_text, make_builder

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.loader import collate, left_pad
from recbole_lcrec.instruction.samples import EpochSamples, Sequences, TaskSamples


def sequences(lengths: list[int], width: int = 3, n_items: int = 6) -> Sequences:
    """Users with ``lengths`` interactions each, items counting up."""
    histories, sizes, targets, from_end, total = [], [], [], [], []
    for user, n in enumerate(lengths):
        items = [(user + t) % n_items for t in range(n)]
        for t in range(1, n):
            history = items[max(0, t - width) : t]
            histories.append(history + [-1] * (width - len(history)))
            sizes.append(len(history))
            targets.append(items[t])
            from_end.append(n - 1 - t)
            total.append(n - 1)
    return Sequences(*(np.array(column) for column in (histories, sizes, targets, from_end, total)))


def test_every_sample_comes_as_often_as_any_other_whatever_the_epoch_size() -> None:
    data = sequences([6, 4, 8])
    stream = TaskSamples("seqrec", data, catalogue_text(), per_epoch=9, windows=None, seed=1)
    drawn = np.concatenate([stream.rows(epoch) for epoch in range(5)])  # 45 = 3 passes over 15
    assert len(stream) == 15 and np.bincount(drawn).tolist() == [3] * 15
    again = TaskSamples("seqrec", data, catalogue_text(), per_epoch=9, windows=None, seed=1)
    np.testing.assert_array_equal(again.rows(3), stream.rows(3))  # without having seen epochs 0 to 2
    assert not np.array_equal(stream.rows(0), TaskSamples("seqrec", data, catalogue_text(), 9, None, 2).rows(0))


def test_windows_cover_each_transition_of_long_users_at_most_once_a_pass() -> None:
    data = sequences([30, 3], width=5)
    stream = TaskSamples("seqrec", data, catalogue_text(), per_epoch=None, windows=5, seed=0)
    for epoch in range(6):
        ends = sorted(data.from_end[row] for row in stream.rows(epoch) if data.user_samples[row] == 29)
        assert set(np.diff(ends)) == {5}
        assert [row for row in stream.rows(epoch) if data.user_samples[row] == 2] == [30]  # a short user's last sample
    offsets = {min(data.from_end[row] for row in stream.rows(e) if data.user_samples[row] == 29) for e in range(20)}
    assert len(offsets) > 2


def test_wordings_are_drawn_per_sample_and_epoch_and_fit_the_text() -> None:
    stream = TaskSamples("item2index", sequences([3]), catalogue_text(), per_epoch=60, windows=None, seed=0)
    assert len(stream) == 6
    rows = stream.rows(0)
    templates = stream.templates(0, rows)
    for row, template in zip(rows, templates, strict=True):
        assert "title" not in template.fields or catalogue_text().titles[row]
        assert "description" not in template.fields or catalogue_text().descriptions[row]
    assert len({t.instruction for t in templates}) > 10
    assert stream.templates(1, rows) != templates


def test_a_task_without_text_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    builder = make_builder(task_samples=8)
    builder.text = ItemText(builder.text.items, None, (), ("",) * 6, ("",) * 6)
    with caplog.at_level(logging.WARNING):
        samples = EpochSamples(builder, sequences([5, 5]), None, seed=0)
    assert samples.per_epoch == {"seqrec": 8}
    assert "Task item2index is left out" in caplog.text and "title" in caplog.text


def test_padding() -> None:
    samples = EpochSamples(make_builder(task_samples=4), sequences([5]), None, seed=0).build(0)
    batch = collate(samples, pad_id=0)
    for row, sample in enumerate(samples):
        n = len(sample.ids)
        np.testing.assert_array_equal(batch["input_ids"][row, :n], sample.ids)
        assert not batch["loss_weights"][row, n:].any()
    ids, mask = left_pad([np.array([7]), np.array([1, 2, 3])], pad_id=9)
    assert ids.tolist() == [[9, 9, 7], [1, 2, 3]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
