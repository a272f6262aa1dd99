"""A server under load: every answer is right and arrives, whatever others do."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fake_recommender import ITEMS, FakeRecommender, expected  # noqa: E402
from running import running  # noqa: E402

from recbole_lcrec.benchmarks.http_clients import Clients, request  # noqa: E402
from recbole_lcrec.serving.server import listening  # noqa: E402
from recbole_lcrec.utils.errors import UserError  # noqa: E402

HISTORIES = [[ITEMS[number % 40], ITEMS[number * 7 % 40]] for number in range(50)]


def clients(port: int, k: int = 5) -> Clients:
    right = [[(one.item, one.score) for one in expected(history, k)] for history in HISTORIES]
    return Clients("127.0.0.1", port, HISTORIES, right, k)


def test_many_clients_are_answered_together_and_each_gets_its_own() -> None:
    fake = FakeRecommender(seconds=0.02)
    with running({"run": fake}, serve_wait_ms=2.0) as (_, port):
        one = asyncio.run(clients(port).steady(1, 10))
        many = asyncio.run(clients(port).steady(32, 320))
    assert (len(one.seconds), len(many.seconds)) == (10, 320)
    assert fake.calls[:10] == [1] * 10 and max(fake.calls) > 16
    assert fake.threads == {"decoding"}


def test_no_answer_is_wrong_or_lost_while_others_abort_send_rubbish_or_come_in_crowds() -> None:
    fake = FakeRecommender(seconds=0.002)
    with running({"run": fake}, serve_queue=200) as (service, port):

        async def all_at_once() -> tuple[int, ...]:
            steady, _, crowd = await asyncio.gather(
                clients(port).steady(8, 200), clients(port).nuisance(60), clients(port).crowd(1000)
            )
            answered = len(steady.seconds) + steady.busy, len(crowd.seconds) + crowd.busy
            return *answered, steady.wrong + crowd.wrong, steady.lost + crowd.lost

        assert asyncio.run(all_at_once()) == (200, 1000, 0, 0)
        assert len(asyncio.run(clients(port).steady(4, 40)).seconds) == 40
        assert service.metrics.text().count(b"recbole_lcrec_waiting_questions 0.0") == 1


def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    fake = FakeRecommender()
    with running({"run": fake}) as (service, port):
        fake.may_go_on.clear()
        first = socket.create_connection(("127.0.0.1", port))
        first.sendall(request({"histories": [["i1"]]}))
        eventually(lambda: fake.calls == [1])
        second = socket.create_connection(("127.0.0.1", port))
        second.sendall(request({"histories": [["i2"]] * 3}))
        eventually(lambda: service._batcher.waiting == 3)
        second.close()
        eventually(lambda: service._batcher.waiting == 0)
        fake.may_go_on.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        first.close()
        eventually(lambda: b'status="499"' in service.metrics.text())
    assert fake.calls == [1]


def test_requests_under_way_are_answered_when_the_server_stops() -> None:
    fake = FakeRecommender(seconds=0.3)
    with running({"run": fake}) as (_, port):
        waiting = socket.create_connection(("127.0.0.1", port))
        waiting.sendall(request({"histories": [["i1"]]}))
        eventually(lambda: fake.calls == [1])
    assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    waiting.close()


def test_a_port_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UserError, match="cannot be listened on .*Address already in use.*--serve_port=0"):
            listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="--serve_host=no.such.host.invalid"):
        listening("no.such.host.invalid", 8000)


def eventually(holds: object) -> None:
    end = time.monotonic() + 10
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)
