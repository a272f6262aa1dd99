"""Requests that arrive together are decoded together: a bounded queue, and one thread that alone uses the models.

Decoding 32 histories at once takes a small multiple of the time of one. While the model works, requests queue up by
themselves; while it is idle, the first request waits a few milliseconds for others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[Any, Sequence[Any]], Sequence[Any]]
"""(key, questions of several jobs, one after another) -> an answer to each."""


class Full(Exception):
    """The queue has no room: ask again later."""


class Closed(Exception):
    """The batcher is closed and takes no more questions."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    questions: Sequence[Any]
    future: Future[list[Any]] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Answers questions of many threads in one thread, those with equal keys together.

    Args:
        answer: Answers questions that share a key. If it raises for several jobs, it is called again for each of them
            alone, so that a wrong one does not spoil the others.
        batch: Most questions answered together; a job with more of them is answered by itself.
        wait: Seconds that a job waits for others while the thread is idle.
        room: Most questions that wait.
        observe: Called after every successful call of ``answer`` with the number of questions and its seconds.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        batch: int,
        wait: float,
        room: int,
        observe: Callable[[int, float], None] = lambda questions, seconds: None,
    ) -> None:
        self._answer, self._batch, self._wait, self._room, self._observe = answer, batch, wait, room, observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        with self._changed:
            return sum(len(job.questions) for job in self._jobs)

    def submit(self, key: Hashable, questions: Sequence[Any]) -> Future[list[Any]]:
        """Ask one or more questions; cancelling the result takes them out of the queue.

        Raises:
            Full: If they do not fit into the queue.
            Closed: After :meth:`close`.
        """
        job = _Job(key, questions)
        with self._changed:
            if self._closed:
                raise Closed
            if sum(len(other.questions) for other in self._jobs) + len(questions) > self._room:
                raise Full
            self._jobs.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda future: self._forget(job) if future.cancelled() else None)
        return job.future

    def close(self) -> None:
        """Answer the questions in the queue, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def _work(self) -> None:
        while jobs := self._take():
            self._settle([job for job in jobs if job.future.set_running_or_notify_cancel()])

    def _take(self) -> list[_Job]:
        """Return the oldest job and those with its key that fit into its batch; none once the batcher is closed."""
        with self._changed:
            while True:
                if self._jobs:
                    left = self._jobs[0].arrived + self._wait - time.monotonic()
                    together = self._together()
                    full = sum(len(job.questions) for job in together) >= self._batch
                    if full or self._closed or left <= 0:
                        break
                    self._changed.wait(left)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()
            for job in together:
                self._jobs.remove(job)
            return together

    def _together(self) -> list[_Job]:
        first, count, found = self._jobs[0], 0, []
        for job in self._jobs:
            if job.key == first.key and (job is first or count + len(job.questions) <= self._batch):
                found.append(job)
                count += len(job.questions)
        return found

    def _settle(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        questions = [question for job in jobs for question in job.questions]
        started = time.perf_counter()
        try:
            answers = list(self._answer(jobs[0].key, questions))
            assert len(answers) == len(questions), "one answer to each question"
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._settle([job])
            return
        self._observe(len(questions), time.perf_counter() - started)
        for job in jobs:
            job.future.set_result(answers[: len(job.questions)])
            answers = answers[len(job.questions) :]
