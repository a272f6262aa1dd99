"""Questions of many threads, answered together in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from recbole_lcrec.serving.batcher import Batcher, Closed, Full


class Squares:
    """Squares numbers, refuses negative ones, and works only when it may."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key: Any, questions: Sequence[int]) -> list[int]:
        self.calls.append((key, list(questions)))
        assert self.gate.wait(10)
        if min(questions) < 0:
            raise ValueError("negative")
        return [question**2 for question in questions]


@pytest.fixture
def squares() -> Squares:
    return Squares()


Make = Callable[..., Batcher]


@pytest.fixture
def make(squares: Squares) -> Iterator[Make]:
    made: list[Batcher] = []

    def one(**changes: Any) -> Batcher:
        made.append(Batcher(squares, **{"batch": 8, "wait": 0.0, "room": 100, **changes}))
        return made[-1]

    yield one
    squares.gate.set()
    for batcher in made:
        batcher.close()


def busy(batcher: Batcher, squares: Squares) -> Any:
    """Give it a first job that it holds on to until the gate opens."""
    squares.gate.clear()
    held = batcher.submit("held", [0])
    while not squares.calls:
        time.sleep(0.001)
    return held


def test_everybody_gets_the_answers_to_their_own_questions(make: Make, squares: Squares) -> None:
    batcher = make(wait=0.002)
    with ThreadPoolExecutor(16) as pool:
        asked = [list(range(number, number + number % 5 + 1)) for number in range(200)]
        answers = list(pool.map(lambda one: batcher.submit("key", one).result(10), asked))
    assert answers == [[number**2 for number in one] for one in asked]
    assert sum(len(questions) for _, questions in squares.calls) == sum(map(len, asked))
    assert max(len(questions) for _, questions in squares.calls) <= 8


def test_what_collects_while_the_model_works_is_answered_at_once_by_key_and_in_order(
    make: Make, squares: Squares
) -> None:
    batcher = make()
    busy(batcher, squares)
    futures = [batcher.submit(key, [number]) for number, key in enumerate("abaabb")]
    large = batcher.submit("a", list(range(20)))
    assert batcher.waiting == 26
    squares.gate.set()
    assert [future.result(10) for future in futures] == [[number**2] for number in range(6)]
    assert len(large.result(10)) == 20  # more than fit a batch, so by itself
    assert squares.calls[1:] == [("a", [0, 2, 3]), ("b", [1, 4, 5]), ("a", list(range(20)))]


def test_an_idle_model_waits_for_others_but_not_for_a_full_batch(make: Make, squares: Squares) -> None:
    batcher = make(wait=30.0, batch=3)
    futures = [batcher.submit("key", [number]) for number in range(3)]
    assert [future.result(10) for future in futures] == [[0], [1], [4]]
    assert squares.calls == [("key", [0, 1, 2])]


def test_a_wrong_question_spoils_nobody_elses(make: Make, squares: Squares) -> None:
    batcher = make()
    busy(batcher, squares)
    good, wrong, other = batcher.submit("key", [2]), batcher.submit("key", [3, -1]), batcher.submit("key", [4])
    squares.gate.set()
    assert (good.result(10), other.result(10)) == ([4], [16])
    with pytest.raises(ValueError, match="negative"):
        wrong.result(10)
    assert batcher.submit("key", [5]).result(10) == [25]


def test_the_queue_is_bounded_and_what_is_taken_back_makes_room(make: Make, squares: Squares) -> None:
    batcher = make(room=3)
    busy(batcher, squares)
    first, second = batcher.submit("key", [1, 2]), batcher.submit("key", [3])
    with pytest.raises(Full):
        batcher.submit("key", [4])
    assert first.cancel() and batcher.waiting == 1
    third = batcher.submit("key", [5, 6])
    squares.gate.set()
    assert (second.result(10), third.result(10)) == ([9], [25, 36])
    with pytest.raises(CancelledError):
        first.result(10)
    assert squares.calls[1:] == [("key", [3, 5, 6])]


def test_closing_answers_what_waits_and_takes_no_more(make: Make, squares: Squares) -> None:
    batcher = make(wait=30.0)
    waiting = batcher.submit("key", [7])
    batcher.close()
    assert waiting.result(0) == [49]
    with pytest.raises(Closed):
        batcher.submit("key", [1])
