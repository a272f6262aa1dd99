"""Requests per second of a server, against the same requests one after another.

The server is a process of its own, started by its command line. What it should answer is computed here, a history at a
time; every answer is compared with that. In the end many connect at once, while some ask one after another and one
aborts or sends rubbish: no answer may be wrong, and none may be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.benchmarks.common import tell
from recbole_lcrec.benchmarks.http_clients import Answers, Clients, Items
from recbole_lcrec.recommending import Recommender
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.progress import progress

LONGEST = 20
"""Most items in a history."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this benchmark."""
    parser.add_argument("run_dir", type=Path, help="Folder of a finished run.")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="Clients at once. Default 1 8 32.")
    parser.add_argument("--requests", type=int, default=640, help="Requests per number of clients. Default 640.")
    parser.add_argument("--histories", type=int, default=100, help="Different histories asked for. Default 100.")
    parser.add_argument(
        "--crowd", type=int, default=1000, help="Clients that connect at once in the end. Default 1000."
    )
    parser.add_argument("--k", type=int, default=10, help="Items per history. Default 10.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of the server's model. Default 1.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda. Default cpu.")
    parser.add_argument("--seed", type=int, default=0, help="Of the histories. Default 0.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Also write the results there, as JSON.")


def run(arguments: argparse.Namespace) -> None:
    """Check, measure, print a table and write ``--output``.

    Raises:
        UserError: For numbers below 1, or a run that cannot be served.
        RuntimeError: If an answer is wrong or lost.
    """
    low = [name for name in ("requests", "histories", "crowd", "k", "threads") if vars(arguments)[name] < 1]
    if low or min(arguments.clients) < 1:
        raise UserError(f"{arguments.name}: {', '.join(low) or 'clients'}: expected 1 or more.")
    use_gpu = arguments.device.startswith("cuda")
    recommender = Recommender.load(arguments.run_dir, use_gpu=use_gpu, show_progress=False)
    histories = make_histories(recommender, arguments.histories, arguments.seed)
    expected, alone = answers(recommender, histories, arguments.k)
    with served(arguments.run_dir, arguments.threads, use_gpu) as (host, port):
        clients = Clients(host, port, histories, expected, arguments.k)
        asyncio.run(clients.steady(max(arguments.clients), 2 * max(arguments.clients)))  # warm
        rows = [row(clients, number, arguments.requests) for number in arguments.clients]
        storm = asyncio.run(all_at_once(clients, arguments.requests, arguments.crowd))
    for one in rows:
        one["times one client"] = one["requests/s"] / rows[0]["requests/s"]
        one["times the model alone"] = one["requests/s"] / alone
    message = (
        f"Without a server, a history at a time: {alone:.1f} per second. Right answers in {len(rows)} x "
        f"{arguments.requests} requests; {arguments.crowd} at once among others: {storm}"
    )
    arguments.run_dir = arguments.run_dir.name
    tell(arguments, rows, message, **{"alone per second": alone, "all at once": storm})


def make_histories(recommender: Recommender, number: int, seed: int) -> list[list[str]]:
    """Return histories of 1 to 20 random items."""
    rng, items = np.random.default_rng(seed), np.array([item for item in recommender.items.tokens if item is not None])
    return [rng.choice(items, size=size).tolist() for size in rng.integers(1, LONGEST + 1, size=number)]


def answers(recommender: Recommender, histories: Sequence[Sequence[str]], k: int) -> tuple[list[Items], float]:
    """Return what each history should get by itself, and how many are answered per second."""
    found = []
    recommender.recommend([histories[0]], k)
    started = time.perf_counter()
    for history in progress(histories, description="Expected answers", show=True):
        (items,) = recommender.recommend([history], k)
        found.append([(one.item, one.score) for one in items])
    return found, len(histories) / (time.perf_counter() - started)


@contextmanager
def served(run_dir: Path, threads: int, use_gpu: bool) -> Iterator[tuple[str, int]]:
    """Start a server and yield its address; stop it gracefully afterwards.

    Raises:
        UserError: If it does not start; its own message is on the terminal.
        RuntimeError: If it does not stop gracefully when asked to.
    """
    command = [sys.executable, "-m", "recbole_lcrec", f"--serve={run_dir}", "--serve_port=0", f"--use_gpu={use_gpu}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        found = next((found for line in server.stdout if (found := re.search(r"http://([\d.]+):(\d+) ", line))), None)
        if found is None:
            raise UserError("the server did not start.")
        host, port = found[1], int(found[2])
        _until_it_listens(host, port)
        yield host, port
    finally:
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=60)
    if server.returncode != 0 or "Stopped." not in rest:
        raise RuntimeError(f"the server ended with status {server.returncode}: {rest}")


def _until_it_listens(host: str, port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def row(clients: Clients, number: int, requests: int) -> dict[str, Any]:
    """Return a row of the table.

    Raises:
        RuntimeError: If an answer is wrong, lost or refused.
    """
    started = time.perf_counter()
    outcome = asyncio.run(clients.steady(number, requests))
    seconds = time.perf_counter() - started
    _all_right(outcome, f"{number} clients")
    return {
        "clients": number,
        "requests/s": requests / seconds,
        "mean ms": 1000 * float(np.mean(outcome.seconds)),
        "95th percentile ms": 1000 * float(np.quantile(outcome.seconds, 0.95)),
    }


async def all_at_once(clients: Clients, requests: int, crowd: int) -> dict[str, int]:
    """Let many connect at once while 32 ask one after another, and one aborts and sends rubbish in turn.

    Raises:
        RuntimeError: If an answer is wrong or lost.
    """
    steady, many, _ = await asyncio.gather(clients.steady(32, requests), clients.crowd(crowd), clients.nuisance(100))
    both = Answers(steady.seconds + many.seconds, steady.busy + many.busy, steady.wrong + many.wrong,
                   steady.lost + many.lost)  # fmt: skip
    _all_right(both, "all at once", may_be_busy=True)
    return {"right": len(both.seconds), "told to come back (503)": both.busy, "wrong": both.wrong, "lost": both.lost}


def _all_right(outcome: Answers, where: str, *, may_be_busy: bool = False) -> None:
    if outcome.wrong or outcome.lost or (outcome.busy and not may_be_busy):
        raise RuntimeError(f"serving, {where}: {outcome.wrong} wrong, {outcome.lost} lost, {outcome.busy} refused")
