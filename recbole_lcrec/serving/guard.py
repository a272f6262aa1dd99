"""What stands before every endpoint: which clients are answered, how large a body is read, what browsers may do.

Plain ASGI, because Starlette's own base class for middleware hides a client's disconnection from the endpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """Limits the body, adds headers, and counts requests.

    Args:
        app: The application behind it.
        most: Largest body, in bytes.
        local: Whether only this machine is served: then a request's Host has to name this machine, so that no web page
            reaches the server under a name of its own (DNS rebinding).
        answered: Called with the endpoint, the status and the seconds of every request.
    """

    def __init__(self, app: App, most: int, local: bool, answered: Callable[[str, int, float], None]) -> None:
        self._app, self._most, self._local, self._answered = app, most, local, answered
        self._too_large = f"the body is larger than {most >> 10} KiB (option serve_body_kb of the server)."

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, read = time.perf_counter(), 0, 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._too_large)
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(one for one in more if one[0] not in named)]
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if self._local and _host(headers.get(b"host", "")) not in LOOPBACK:
                what = f"this server answers requests to {' or '.join(LOOPBACK)} only (option serve_host)."
                await _refuse(noted, 421, what)
            elif _length(headers.get(b"content-length", "0")) > self._most:
                await _refuse(noted, 413, self._too_large)
            else:
                await self._app(scope, bounded, noted)
        finally:
            route = scope.get("route")
            self._answered(getattr(route, "path", "other"), status or 500, time.perf_counter() - started)


async def _refuse(send: Send, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]  # the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})


def _host(header: str) -> str:
    """Return a Host header without its port; IPv6 addresses are in brackets."""
    name = header.rpartition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]
    return name.lower()


def _length(header: str) -> int:
    return int(header) if header.isdecimal() else 0
