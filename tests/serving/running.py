"""A server of fakes on a free port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from recbole_lcrec.serving.app import make_app
from recbole_lcrec.serving.server import listening
from recbole_lcrec.serving.service import Service
from recbole_lcrec.serving.settings import read_settings


@contextmanager
def running(runs: Mapping[str, Any], **options: Any) -> Iterator[tuple[Service, int]]:
    """Yield the service and the port of a server, which is stopped afterwards."""
    service = Service(runs, read_settings(options))
    taken = listening("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(service), log_config=None, log_level="critical", backlog=2048))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield service, taken.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
