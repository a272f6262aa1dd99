"""Cheap clients of a server: they ask, abort or send rubbish, and note what comes back.

They speak HTTP over asyncio's connections themselves: on the server's machine a library's cost would be measured, too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Items = list[tuple[str, float]]
"""What is recommended for one history: items and their scores."""
TOLERANCE = 1e-3
"""Most that the scores of an item may differ when it is decoded together with others, and those of two that swap
places."""
RUBBISH = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n{[\xff\xfe]",
    b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
)


@dataclass
class Answers:
    """What clients were answered.

    Attributes:
        seconds: Time of every right answer, from the request to its last byte.
        busy: Answers 503.
        wrong: Answers that are not what the model says by itself, or have another status.
        lost: Requests without an answer.
    """

    seconds: list[float] = field(default_factory=list)
    busy: int = 0
    wrong: int = 0
    lost: int = 0


class Clients:
    """Clients of one server.

    Args:
        host: Where it listens.
        port: Likewise.
        histories: What they ask for, in turn.
        expected: The right answers.
        k: Items per history.
    """

    def __init__(
        self, host: str, port: int, histories: Sequence[Sequence[str]], expected: Sequence[Items], k: int
    ) -> None:
        self._where, self._expected = (host, port), expected
        self._requests = [request({"histories": [history], "k": k}) for history in histories]

    async def steady(self, clients: int, requests: int) -> Answers:
        """Let clients send their requests one by one, each over its own connection, until all are answered."""
        outcome, numbers = Answers(), iter(range(requests))

        async def client() -> None:
            reader, writer = await asyncio.open_connection(*self._where)
            for number in numbers:
                await self._ask(reader, writer, number % len(self._requests), outcome)
            writer.close()

        await asyncio.gather(*(client() for _ in range(clients)))
        return outcome

    async def crowd(self, connections: int) -> Answers:
        """Let this many clients connect at once and ask for one history each."""
        outcome = Answers()

        async def client(number: int) -> None:
            try:
                reader, writer = await asyncio.open_connection(*self._where)
            except OSError:
                outcome.lost += 1
                return
            await self._ask(reader, writer, number % len(self._requests), outcome)
            writer.close()

        await asyncio.gather(*(client(number) for number in range(connections)))
        return outcome

    async def nuisance(self, rounds: int) -> None:
        """Alternately ask and leave before the answer, and send rubbish."""
        for number in range(rounds):
            reader, writer = await asyncio.open_connection(*self._where)
            if number % 2:
                writer.write(RUBBISH[number // 2 % len(RUBBISH)])
                await writer.drain()
                await asyncio.sleep(0.01)
            else:
                writer.write(self._requests[number % len(self._requests)])
                await writer.drain()
                await asyncio.sleep(0.001 * (number % 8))
            writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, outcome: Answers
    ) -> None:
        started = time.perf_counter()
        try:
            writer.write(self._requests[number])
            status, answer = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            outcome.lost += 1
            return
        if status == 503:
            outcome.busy += 1
        elif status == 200 and same(answer["recommendations"][0], self._expected[number]):
            outcome.seconds.append(time.perf_counter() - started)
        else:
            outcome.wrong += 1


def request(body: Any) -> bytes:
    """Return the bytes of a request for recommendations."""
    content = json.dumps(body).encode()
    head = "POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Return the status and the JSON of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    content = await reader.readexactly(int(fields["content-length"]))
    return int(head[0].split()[1]), json.loads(content)


def same(found: Sequence[dict[str, Any]], expected: Items) -> bool:
    """Return whether items and scores are as expected; two may change places where their scores hardly differ."""
    return len(found) == len(expected) and all(
        abs(one["score"] - score) < TOLERANCE and (one["item"] == item or _has_tie(expected, score))
        for one, (item, score) in zip(found, expected, strict=True)
    )


def _has_tie(expected: Items, score: float) -> bool:
    return sum(abs(other - score) < TOLERANCE for _, other in expected) > 1
