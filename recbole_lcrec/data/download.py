"""Downloading one file over HTTP, in the face of cut connections, changed files and servers that cannot resume.

What has arrived is in ``<name>.part``; ``<name>.part.json`` says which file it is the beginning of. A later call asks
for the rest only, on condition that the server's file is still the same (HTTP's Range and If-Range).
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, ProtocolError
from urllib3.util import Retry, parse_url

from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import write_json
from recbole_lcrec.utils.progress import progress

logger = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
"""Without a network, the user should know at once; a server may pause, but not for longer than this."""
RETRIES = Retry(total=4, backoff_factor=1)
"""How often, and after how many seconds, an interrupted download is tried again."""
_CHUNK = 1 << 18
_BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be temporary."""


class DownloadError(Exception):
    """A file cannot be downloaded; the message says why, in a few words without a full stop."""


class _Interrupted(Exception):
    """The attempt failed, but another one may succeed.

    Args:
        reason: How it failed.
        reached: Whether there was a connection; without a network, or without such a server, waiting is of no use.
    """

    def __init__(self, reason: str, *, reached: bool = True) -> None:
        super().__init__(reason)
        self.reached = reached


@dataclass(frozen=True)
class _State:
    """Which file a ``.part`` is the beginning of.

    Attributes:
        url: Its address.
        validator: What If-Range takes: the server's strong ETag for this version of the file, or its date; None if
            the server cannot tell versions apart.
        bytes: Its size, None if the server does not say.
    """

    url: str
    validator: str | None
    bytes: int | None


def part_of(target: Path) -> Path:
    """Return where the file is while, and after, it is downloaded."""
    return target.with_name(target.name + ".part")


def discard(target: Path) -> None:
    """Remove what was downloaded."""
    for path in (part_of(target), _state_path(target)):
        path.unlink(missing_ok=True)


def download(url: str, target: Path, *, show: bool) -> Path:
    """Download a file, or the rest of it; one process at a time may do so for one ``target``.

    Args:
        url: An http or https address; proxies and certificates are those of the environment (see requests).
        target: Names the file; nothing is written to this path itself.
        show: Whether to show a progress bar.

    Returns:
        The path of the complete file, ``<target>.part``. Call :func:`discard` when it is no longer needed.

    Raises:
        DownloadError: If the server cannot be reached or refuses, or the connection is cut repeatedly; what has
            arrived is kept for the next call.
        OSError: If it cannot be written.
        UserError: If there is no room on the disk.
    """
    retries, reached = RETRIES, False
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes of the file itself
        while True:
            try:
                _attempt(session, url, target, show)
                return part_of(target)
            except _Interrupted as error:
                reached |= error.reached
                if not reached:
                    raise DownloadError(str(error)) from error
                logger.info("The download of %s was interrupted: %s.", target.name, error)
                try:
                    retries = retries.increment("GET", error=error)
                except MaxRetryError:
                    raise DownloadError(
                        f"after {len(retries.history) + 1} attempts, {error} (what has arrived is kept; run again to "
                        "go on)"
                    ) from error
                retries.sleep()


def _attempt(session: requests.Session, url: str, target: Path, show: bool) -> None:
    """Request what is missing and append it to the part."""
    start, state = _size(target), _read_state(target)
    if state is None or state.url != url or state.validator is None:
        start, state = 0, None
    if state is not None and state.bytes is not None and start >= state.bytes:
        if start == state.bytes:
            return
        raise _changed(target)
    headers = {}
    if state is not None and state.validator is not None and start:
        headers = {"Range": f"bytes={start}-", "If-Range": state.validator}
    with _answer(session, url, headers, target) as response:
        found = _state_of(response, url)
        if response.status_code == 206 and state is not None:
            same = found.validator in (None, state.validator) and found.bytes in (None, state.bytes)
            if not same or not re.match(rf"bytes {start}-\d", response.headers.get("Content-Range") or ""):
                raise _changed(target)
            found = state
        else:
            start = 0
            discard(target)
            write_json(_state_path(target), asdict(found))
        _receive(response, target, start, found.bytes, show)


def _answer(session: requests.Session, url: str, headers: dict[str, str], target: Path) -> requests.Response:
    """Return the server's answer, its body still to be read.

    Raises:
        DownloadError: If it is a refusal, or the address is not one.
        _Interrupted: If a later attempt may do better.
    """
    try:
        response = session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except (requests.RequestException, HTTPError) as error:
        if isinstance(error, ValueError):  # both libraries mark invalid addresses like this
            raise DownloadError(f"the address is not valid ({error})") from error
        cause = error.args[0] if error.args else error
        if isinstance(cause, MaxRetryError):  # no name, no route, refused, no certificate
            text = f"the server cannot be reached ({_reason(cause.reason or cause)})"
            raise _Interrupted(text, reached=False) from error
        raise _Interrupted(_reason(cause)) from error
    if response.ok:
        return response
    response.close()
    if response.status_code == 416:
        raise _changed(target)
    text = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in _BUSY:
        raise _Interrupted(text)
    raise DownloadError(text)


def _receive(response: requests.Response, target: Path, start: int, total: int | None, show: bool) -> None:
    """Append the body of the answer to the part, which has ``start`` bytes; ``total`` is the size of the file."""
    if total is not None and total - start > shutil.disk_usage(target.parent).free:
        raise UserError(f"{target.parent}: no room for {target.name} ({total / 2**20:.1f} MiB).")
    size = "" if total is None else f" ({total / 2**20:.1f} MiB)"
    logger.info("Downloading %s%s.", without_credentials(response.url), size)
    units: dict[str, Any] = {"total": total, "initial": start, "unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with part_of(target).open("ab") as file, progress(description=target.name, show=show, **units) as bar:
        try:
            while chunk := response.raw.read1(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        except ProtocolError as error:
            of_all = "" if total is None else f" of {total}"
            raise _Interrupted(f"the connection ended after {file.tell()}{of_all} bytes") from error
        except HTTPError as error:
            raise _Interrupted(_reason(error)) from error


def without_credentials(url: str) -> str:
    """Return an address without the user's name and password, for logs and files."""
    try:
        return str(parse_url(url)._replace(auth=None))
    except LocationParseError:  # nor can anything be requested from there
        return url.rpartition("@")[2]


def _changed(target: Path) -> _Interrupted:
    """Remove what has arrived, which does not fit the server's file, and return the exception to raise."""
    logger.warning("%s has changed since a part of it was downloaded: starting again.", target.name)
    discard(target)
    return _Interrupted("it changes while it is downloaded")


def _reason(error: BaseException) -> str:
    """Return what went wrong in a few words, without the names of urllib3's objects."""
    inner = error.args[-1] if error.args else error
    if isinstance(inner, Exception):
        return f"{type(inner).__name__}: {inner}"
    return re.sub(r"^\w+\(.*?\): (Failed to establish a new connection: )?", "", str(inner))


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


def _state_of(response: requests.Response, url: str) -> _State:
    etag, length = response.headers.get("ETag"), response.headers.get("Content-Length")
    if response.status_code == 206:
        length = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    if etag is None or etag.startswith("W/"):  # weak ones hold for equal meaning, not equal bytes
        etag = response.headers.get("Last-Modified")
    return _State(url, etag, int(length) if length and length.isdecimal() else None)
