"""A small archive of the layout that RecBole publishes, and a local server that misbehaves on demand."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "Amazon_Video_Games"


def atomic_files(users: int = 30, items: int = 12) -> dict[str, str]:
    """Return name -> content as RecBole's archives of Amazon reviews have them.

    The users and items are a 5-core, but for one user with four interactions, one item with one, and a repetition.
    """
    inter = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(users):
        inter += [f"U{user}\tB{(user + step) % items}\t{1 + step % 5}.0\t{1500000000 + step}" for step in range(6)]
    inter.append(f"U0\tB0\t1.0\t{1500000099}")
    inter += [f"few\tB{step}\t5.0\t{1500000000 + step}" for step in range(4)]
    inter.append("U1\trare\t5.0\t1500000050")
    item = [
        "item_id:token\tprice:float\tsales_type:token\tsales_rank:float\tcategories:token_seq\ttitle:token\tbrand:token"
    ]
    item += ["rare\t\t\t\tVideo Games\tRare game\tMaker", "unseen\t\t\t\tVideo Games\tUnseen game\tMaker"]
    item += [f"B{n}\t9.99\tVideo Games\t{n}.0\tVideo Games PC\tGame &amp; {n}\tMaker" for n in range(items)]
    return {f"{PREFIX}.inter": "\n".join(inter) + "\n", f"{PREFIX}.item": "\n".join(item) + "\n"}


def zipped(files: Mapping[str, str], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive of name -> content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file.

    Attributes:
        content: The file.
        headers: Headers of every answer with content (ETag, Last-Modified).
        ranges: Whether Range is understood.
        heeds_if_range: Whether If-Range is.
        says_length: Whether Content-Length is sent.
        cuts: Bytes after which the next answers are cut off; None sends all.
        statuses: Statuses of the next answers instead of the file; None sends the file.
        requests: Headers of the requests that came, with their path.
        gate: Cleared, answers with content wait for it.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.headers: dict[str, str] = {"ETag": '"one"'}
        self.ranges = self.heeds_if_range = self.says_length = True
        self.cuts: list[int | None] = []
        self.statuses: list[int | None] = []
        self.requests: list[dict[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data/{PREFIX}.zip"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent when a client is gone before its answer, as some tests want it."""

    def ranges_asked(self) -> list[str | None]:
        """Return the Range of each request, in order."""
        return [request.get("Range") for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({**dict(self.headers.items()), "path": self.path})
        status = server.statuses.pop(0) if server.statuses else None
        if status:
            self.send_error(status)
            return
        server.gate.wait(30)
        start, wanted = 0, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, *server.headers.values()) or not server.heeds_if_range
        if wanted and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        for name, value in server.headers.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """Serve ``content`` on a free port of this machine."""
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
