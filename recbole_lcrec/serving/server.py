"""A server from start to stop: the port is taken, the runs are loaded, requests are answered until a signal comes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn

from recbole_lcrec.recommending import Recommender
from recbole_lcrec.serving.app import make_app
from recbole_lcrec.serving.service import Service
from recbole_lcrec.serving.settings import ServeSettings, run_names
from recbole_lcrec.training.interruption import Interrupted
from recbole_lcrec.utils.errors import UserError, reason_of

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the system queues until the server accepts them."""
STOPPING = 30
"""Seconds that open requests have left after a signal."""


def serve(folders: tuple[Path, ...], settings: ServeSettings, changes: Mapping[str, Any]) -> None:
    """Serve runs until SIGTERM or Ctrl-C: then pending requests are answered, and no more are accepted.

    Args:
        folders: The folder of one run, or those of two runs on the same data set.
        settings: Options of the server.
        changes: Options with which the runs are loaded.

    Raises:
        UserError: If the address cannot be listened on, or a run cannot be loaded.
    """
    with listening(settings.serve_host, settings.serve_port) as taken:
        names = run_names(folders)
        runs = {name: Recommender.load(folder, **changes) for name, folder in zip(names, folders, strict=True)}
        config = uvicorn.Config(
            make_app(Service(runs, settings)),
            backlog=BACKLOG,
            timeout_graceful_shutdown=STOPPING,
            log_config=None,
            log_level="error",  # no line for every request that is not HTTP
            access_log=False,
            server_header=False,
        )
        address = f"http://{_named(settings.serve_host)}:{taken.getsockname()[1]}"
        print(f"Serving {' and '.join(names)} at {address} (interface: {address}/docs). Stop with Ctrl-C.", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[taken])
        except Interrupted:  # the signal that stopped the server, which raises it again at its end
            print("Stopped.", flush=True)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; it refuses connections until the server listens on it.

    Raises:
        UserError: If this machine does not have the address, or another program uses it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        raise UserError(
            f"--serve_host={host} --serve_port={port}: cannot be listened on ({reason_of(error)}). Give an address of "
            "this machine and a free port; --serve_port=0 takes one."
        ) from error
    return taken


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host
