"""An epoch's samples are a function of (seed, epoch, sample), cover the data evenly, and skip what has no text."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fakes import catalogue_text, make_builder

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.instruction.loader import collate, left_pad
from recbole_lcrec.instruction.samples import EpochSamples, Sequences, TaskSamples
from recbole_lcrec.instruction.templates import TEMPLATES
from recbole_lcrec.usertext import Intention, Preferences, UserTexts
from recbole_lcrec.utils.errors import UserError


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
    assert "Task itemsearch is left out: no user has an intention in words (user_text=none)." in caplog.text
    assert "Task preferenceobtain is left out: no user has preferences in words (user_text=none)." in caplog.text


def user_texts() -> UserTexts:
    """Three users: without history, without preferences, and with everything twice."""
    preferences = {"u0": Preferences((1,), ("likes saws",)), "u2": Preferences((4, 2), ("likes film", "wants nails"))}
    intentions = {
        "u0": Intention(3, (), ("a nail",)),
        "u1": Intention(0, (5, 2), ("a saw",)),
        "u2": Intention(1, (4, 2), ("a hammer", "a large hammer")),
    }
    return UserTexts(preferences, intentions, "test")


def test_wordings_of_a_search_fit_what_the_user_has() -> None:
    stream = TaskSamples("itemsearch", sequences([3]), catalogue_text(), 600, None, 0, user_texts())
    fields: dict[int, set[frozenset[str]]] = {0: set(), 1: set(), 2: set()}
    said = set()
    for row, template, context in stream.draw(0):
        fields[row].add(template.fields)
        said.add((row, context.intention, context.target))
        assert ("preferences" not in template.fields) or context.preferences
    alone, history, preferences = (
        frozenset({"intention", "index", *more}) for more in ((), ("history",), ("preferences",))
    )
    assert fields == {0: {alone, preferences}, 1: {alone, history}, 2: {alone, history, preferences}}
    assert said == {(0, "a nail", 3), (1, "a saw", 0), (2, "a hammer", 1), (2, "a large hammer", 1)}
    again = TaskSamples("itemsearch", sequences([3]), catalogue_text(), 600, None, 0, user_texts())
    drawn, other = list(again.draw(1)), list(stream.draw(1))
    assert [(row, t, c.intention) for row, t, c in drawn] == [(row, t, c.intention) for row, t, c in other]
    assert len({template for _, template, _ in drawn}) == len(TEMPLATES["itemsearch"])


def test_preferences_are_read_off_the_history_before_them() -> None:
    stream = TaskSamples("preferenceobtain", sequences([3]), catalogue_text(), None, None, 0, user_texts())
    assert len(stream) == 2
    found = {(tuple(c.history.tolist()), c.preferences) for epoch in range(20) for _, _, c in stream.draw(epoch)}
    assert found == {((1,), "likes saws"), ((4, 2), "likes film"), ((4, 2), "wants nails")}


def test_all_six_tasks_and_their_weights() -> None:
    weights = {"itemsearch": 0.5, "seqrec": 3.0}
    built = {}
    for name, some in (("plain", None), ("weighted", weights)):
        builder = make_builder(task_samples=5, history_loss_weight=0.25, task_weights=some)
        samples = EpochSamples(builder, sequences([5, 4]), None, seed=0, user_texts=user_texts())
        built[name] = {s.task: [sample for _, sample in samples.of_task(s, 2)] for s in samples.streams}
        assert [len(sample.ids) for task in built[name].values() for sample in task] == [
            len(sample.ids) for sample in samples.build(2)
        ]
    assert list(built["plain"]) == list(TEMPLATES)
    for task, samples in built["plain"].items():
        for plain, weighted in zip(samples, built["weighted"][task], strict=True):
            np.testing.assert_array_equal(plain.ids, weighted.ids)
            np.testing.assert_allclose(plain.weights * weights.get(task, 1.0), weighted.weights)
            assert weighted.weights.dtype == np.float32


def test_long_user_texts_are_cut_by_words_and_the_response_ends_with_the_end_token() -> None:
    long = " ".join(f"word{n}" for n in range(500))
    texts = UserTexts({"u": Preferences((1, 2), (long, "x " + long))}, {"u": Intention(0, (1, 2), (long,))}, "test")
    builder = make_builder(task_samples=30, max_length=240)
    samples = EpochSamples(builder, sequences([4]), None, seed=0, user_texts=texts)
    for stream in samples.streams[4:]:
        for _, sample in samples.of_task(stream, 0):
            text = builder.tokenizer.decode(sample.ids)
            assert "word0" in text and "word10" not in text and len(sample.ids) <= 240
            assert sample.ids[-1] == builder.tokenizer.eos_token_id and sample.weights[-1] == 1


def test_a_limit_that_no_user_text_fits_is_refused_before_training() -> None:
    texts = UserTexts({}, {"u": Intention(0, (1, 2), ("word " * 9,))}, "test")
    with pytest.raises(UserError, match="max_length=60 is too small"):
        EpochSamples(make_builder(tasks=["seqrec", "itemsearch"], max_length=60), sequences([4]), None, 0, texts)


def test_padding() -> None:
    samples = EpochSamples(make_builder(task_samples=4), sequences([5]), None, seed=0).build(0)
    batch = collate(samples, pad_id=0)
    for row, sample in enumerate(samples):
        n = len(sample.ids)
        np.testing.assert_array_equal(batch["input_ids"][row, :n], sample.ids)
        assert not batch["loss_weights"][row, n:].any()
    ids, mask = left_pad([np.array([7]), np.array([1, 2, 3])], pad_id=9)
    assert ids.tolist() == [[9, 9, 7], [1, 2, 3]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
