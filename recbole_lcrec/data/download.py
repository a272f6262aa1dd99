"""Downloading one file over HTTP, in the face of cut connections, changed files and servers that cannot resume.

What has arrived lies in ``<name>.part``; ``<name>.part.json`` says which file it is the beginning of. A later call
asks for the rest only, on condition that the server's file is still the same (HTTP's Range and If-Range).
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from recbole_lcrec.errors import UserError
from recbole_lcrec.io import write_json
from recbole_lcrec.progress import progress

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""Without a network the user should hear of it at once."""
READ_SECONDS = 30.0
"""A server may pause, but not for longer."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt after a cut connection."""
_CHUNK = 1 << 18
_BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may pass."""


class DownloadError(Exception):
    """A file cannot be had; the message says why, in a few words that end no sentence."""


class _Unreachable(DownloadError):
    """No connection could be made."""


class _Interrupted(Exception):
    """The attempt failed in a way that another one may mend."""


class _Changed(Exception):
    """What has arrived so far does not fit the server's file: start again."""


class _ShortConnect:
    """Mixin of http.client's connections: one time limit to reach the server, a longer one for its answers."""

    sock: Any
    timeout: Any

    def connect(self) -> None:
        self.timeout = CONNECT_SECONDS
        super().connect()  # type: ignore[misc]
        self.sock.settimeout(READ_SECONDS)


class _HTTPConnection(_ShortConnect, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_ShortConnect, http.client.HTTPSConnection):
    pass


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, req)


@dataclass(frozen=True)
class _State:
    """Which file a ``.part`` is the beginning of.

    Attributes:
        url: Its address.
        etag: The server's strong name for this version of the file, None when it gives none.
        modified: Its Last-Modified date, None likewise.
        bytes: Its size, None when the server does not say.
    """

    url: str
    etag: str | None
    modified: str | None
    bytes: int | None

    @property
    def validator(self) -> str | None:
        """What If-Range takes; None when the server cannot tell versions apart."""
        return self.etag or self.modified

    def agrees(self, later: _State) -> bool:
        """Whether a later answer, which may leave things out, can be about the same version of the file."""
        return all(new in (None, old) for old, new in zip(astuple(self), astuple(later), strict=True))


def part_of(target: Path) -> Path:
    """Return where the file lies while, and after, it is downloaded."""
    return target.with_name(target.name + ".part")


def discard(target: Path) -> None:
    """Remove what was downloaded."""
    for path in (part_of(target), _state_path(target)):
        path.unlink(missing_ok=True)


def download(url: str, target: Path, *, show: bool) -> Path:
    """Download a file, or the rest of it; one process at a time may do so for one ``target``.

    Args:
        url: An http or https address; proxies are taken from the environment.
        target: Names the file; nothing is written at this very path.
        show: Whether to show a progress bar.

    Returns:
        The path of the complete file, ``<target>.part``. Call :func:`discard` when it has served.

    Raises:
        DownloadError: If the server cannot be reached or refuses, or the connection is cut again and again; what has
            arrived stays for the next call.
        OSError: If it cannot be written.
        UserError: If there is no room on the disk.
    """
    opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
    answered = False
    for wait in (*WAITS, None):
        try:
            _attempt(opener, url, target, show)
            return part_of(target)
        except _Changed:
            logger.warning("%s has changed since a part of it was downloaded: starting again.", target.name)
            discard(target)
            answered, cause = True, "it changes while it is downloaded"
            continue
        except _Interrupted as error:
            answered, cause = True, str(error)
        except _Unreachable as error:
            if not answered:  # there is no network, or no such server: waiting is no use
                raise
            cause = str(error)
        logger.info("The download of %s was interrupted: %s.", target.name, cause)
        if wait is not None:
            time.sleep(wait)
    raise DownloadError(f"after {len(WAITS) + 1} attempts, {cause} (what has arrived is kept; run again to go on)")


def _attempt(opener: urllib.request.OpenerDirector, url: str, target: Path, show: bool) -> None:
    """Request what is missing and append it to the part."""
    start, state = _size(target), _read_state(target)
    if state is None or state.url != url or state.validator is None:
        start, state = 0, None
    if state is not None and state.bytes is not None and start >= state.bytes:
        if start == state.bytes:
            return
        raise _Changed
    request = urllib.request.Request(url)
    if state is not None and state.validator is not None and start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", state.validator)
    with _answer(opener, request) as response:
        found = _state_of(response, url)
        if response.status == 206 and state is not None:
            if not _starts_at(response, start) or not state.agrees(found):
                raise _Changed
            found = state
        else:
            start = 0
            discard(target)
            write_json(_state_path(target), asdict(found))
        _receive(response, target, start, found.bytes, show)


def _answer(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> http.client.HTTPResponse:
    """Return the server's answer.

    Raises:
        DownloadError: If there is none, or a refusal.
        _Interrupted: If a later attempt may do better.
        _Changed: If the server's file is shorter than what has arrived.
    """
    try:
        return opener.open(request)
    except urllib.error.HTTPError as error:
        error.close()
        text = f"the server answers {error.code} {error.reason}"
        if error.code == 416:
            raise _Changed from error
        if error.code in _BUSY:
            raise _Interrupted(text) from error
        raise DownloadError(text) from error
    except urllib.error.URLError as error:  # no name, no route, refused, no certificate: trying again is no use
        raise _Unreachable(f"the server cannot be reached ({error.reason})") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"this is no address ({error})") from error
    except (OSError, http.client.HTTPException) as error:  # the connection was made, and cut before the answer
        raise _Interrupted(_reason(error)) from error


def _receive(response: http.client.HTTPResponse, target: Path, start: int, total: int | None, show: bool) -> None:
    """Append the body of the answer to the part, which has ``start`` bytes; ``total`` is the size of the file."""
    if total is not None and total - start > shutil.disk_usage(target.parent).free:
        raise UserError(f"{target.parent}: no room for {target.name}, which has {total / 2**20:.1f} MiB.")
    logger.info("Downloading %s%s.", response.geturl(), "" if total is None else f" ({total / 2**20:.1f} MiB)")
    sizes: dict[str, Any] = {"total": total, "initial": start, "unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with (
        part_of(target).open("ab") as file,
        progress(description=target.name, show=show, **sizes) as bar,
    ):
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(_reason(error)) from error
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
    arrived = _size(target)
    if total is not None and arrived < total:  # http.client takes the end of the connection for the end of the file
        raise _Interrupted(f"the connection ended after {arrived} of {total} bytes")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _size(target: Path) -> int:
    part = part_of(target)
    return part.stat().st_size if part.is_file() else 0


def _state_path(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _read_state(target: Path) -> _State | None:
    try:
        return _State(**json.loads(_state_path(target).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # not written by this version: start again
        return None


def _state_of(response: http.client.HTTPResponse, url: str) -> _State:
    etag = response.headers.get("ETag")
    length = response.headers.get("Content-Length")
    if response.status == 206:
        length = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    return _State(
        url,
        None if etag is None or etag.startswith("W/") else etag,  # weak ones hold for equal meaning, not equal bytes
        response.headers.get("Last-Modified"),
        int(length) if length and length.isdecimal() else None,
    )


def _starts_at(response: http.client.HTTPResponse, start: int) -> bool:
    return re.match(rf"bytes {start}-\d", response.headers.get("Content-Range") or "") is not None
