"""Download one file over HTTP into ``FILE.part``, and resume an interrupted download.

``FILE.part.json`` records the origin of the received bytes, and the validator (ETag or Last-Modified) that the server
sent with them. A resumed download sends it as ``If-Range`` (RFC 9110 section 13.1.5): the server returns the rest only
if the file is unchanged, and the whole file otherwise. Without a validator, the rest is requested only if a published
hash can detect a changed file.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelens import __version__
from guidelens.errors import GuidelensError

from .store import ByteProgress, format_size, hash_stream

logger = logging.getLogger(__name__)

RETRIES = 4
"""Number of retries after temporary failures. The count restarts when the file has grown by :data:`WORTH` bytes."""

LONGEST_PAUSE = 60.0
"""Longest pause in seconds that a server's ``Retry-After`` may request."""

TIMEOUT = 30.0
"""A connection is closed after this number of seconds without data."""

SLOW_WINDOW, SLOWEST = 60.0, 1024.0
"""A connection is closed if it is slower than this number of bytes per second over this number of seconds."""

WORTH = 1 << 14
"""Bytes that an attempt must download to restart the count of failures."""

LARGEST = 1 << 38
"""Largest size in bytes of a file whose size is not published."""

SMALLEST = 1 << 10
"""Smallest size in bytes of a file without a published hash. Shorter answers are error messages, not weights."""

_BLOCK = 1 << 18
_HEAD = 512
_LONGEST_REASON = 200
_PASSING_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(GuidelensError):
    """A permanent failure of a download. The message has the reason only."""


@dataclass(frozen=True)
class Source:
    """What to download.

    :param url: its address.
    :param origin: identifies the file independently of mirrors.
    :param size: as published, in bytes.
    :param hashed: a published hash will be compared with the result.
    :param binary: its format is a binary one, so that an answer in text is a message.
    :param token: sent as a bearer token, to the first host only.
    """

    url: str
    origin: str
    size: int | None = None
    hashed: bool = False
    binary: bool = False
    token: str = ""


class _Passing(Exception):
    """A temporary failure."""

    def __init__(self, reason: str, *, after: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.after, self.unreachable = after, unreachable


class Download:
    """A single download. Call :meth:`run` once."""

    def __init__(
        self,
        source: Source,
        part: Path,
        report: ByteProgress | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source, self.part = source, part
        self.resumed = False
        """Whether bytes of an earlier run are part of the result."""
        self._report = report or (lambda done, total: None)
        self._sleep = sleep
        self._meta = part_meta_path(part)
        self._validator = ""
        self._digest = hashlib.sha256()
        self._done = 0
        self._received = 0
        self._opener = urllib.request.build_opener(_NoDowngrade)

    def run(self) -> str:
        """Download the file to ``part``, and return its SHA-256 (hex).

        :raises DownloadError: a permanent failure. The received bytes are kept for the next run.
        """
        self._take_up()
        failures, furthest = 0, self._done
        while True:
            try:
                self._attempt()
                return self._digest.hexdigest()
            except _Passing as failure:
                grown = self._done - furthest >= WORTH
                failures = 1 if grown else failures + 1
                furthest = self._done if grown else furthest
                if failures > RETRIES or (failure.unreachable and not self._received):
                    raise DownloadError(str(failure)) from failure.__cause__
                pause = min(failure.after or 2.0 ** (failures - 1), LONGEST_PAUSE)
                logger.warning("%s; trying again in %g s", failure, pause)
                self._sleep(pause)

    # -- bytes of an earlier run

    def _take_up(self) -> None:
        """Continue from the bytes of an earlier run if they can be trusted, otherwise start over."""
        if not self.part.is_file():
            return
        meta = _read_json(self._meta)
        same_place = meta.get("url") == self.source.url
        self._validator = str(meta.get("validator", "")) if same_place else ""
        ours = meta.get("origin", self.source.origin) == self.source.origin
        size = self.part.stat().st_size
        too_long = self.source.size is not None and size > self.source.size
        if not ours or too_long or not self._can_resume():
            self._start_over()
            return
        with self.part.open("rb") as stream:
            self._digest = hash_stream(stream, size)
        self._done = size
        self.resumed = size > 0

    def _can_resume(self) -> bool:
        """Whether a change of the file on the server would be detected."""
        return bool(self._validator) or self.source.hashed

    def _start_over(self) -> None:
        self._digest, self._done, self.resumed, self._validator = hashlib.sha256(), 0, False, ""
        self.part.unlink(missing_ok=True)
        self._meta.unlink(missing_ok=True)

    # -- one request

    def _attempt(self) -> None:
        if self.source.size is not None and self._done == self.source.size:
            return  # an earlier run received all bytes, but was stopped before the end
        if self._done and not self._can_resume():
            self._start_over()
        try:
            response = self._open()
        except _Complete:
            return
        with response:
            total = self._accept(response)
            self._check_space(total)
            self._receive(response, total)
        if total is not None and self._done < total:
            raise _Passing(f"the connection ended after {self._done:,} of {total:,} bytes")
        if self.source.size is not None and self._done != self.source.size:
            raise DownloadError(
                f"{self.source.url} gave {self._done:,} bytes instead of {self.source.size:,}"
            )
        if not self.source.hashed and self._done < SMALLEST:
            received = self._done
            self._start_over()
            raise DownloadError(f"{self.source.url} gave {received:,} bytes, too few to be a file of weights")
        if not self.source.hashed and self.source.binary:
            self._check_binary()

    def _check_binary(self) -> None:
        """:raises DownloadError: what came is text, where no published hash would tell that it is a message."""
        with self.part.open("rb") as stream:
            head = stream.read(_HEAD)
        if _is_text(head):
            self._start_over()
            start = " ".join(head.decode(errors="replace").split())
            raise DownloadError(
                f"{self.source.url} answers with text ({start[:60]}), not with a file of weights"
            )

    def _open(self) -> Any:
        headers = {"User-Agent": f"guidelens/{__version__}", "Accept-Encoding": "identity"}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if self._validator:
                headers["If-Range"] = self._validator
        request = urllib.request.Request(self.source.url, headers=headers)
        if self.source.token:  # hubs redirect to third-party storage, which must not see the token
            request.add_unredirected_header("Authorization", f"Bearer {self.source.token}")
        try:
            return self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        except urllib.error.URLError as error:
            raise _unreached(self.source.url, error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unreached(self.source.url, error) from error
        except ValueError as error:  # a redirect to an invalid address
            raise DownloadError(f"{self.source.url} gave a malformed answer: {_reason(error)}") from error

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        """Return the failure for an HTTP error status."""
        if error.code == 416 and self._done:
            length = re.fullmatch(r"bytes \*/(\d{1,18})", error.headers.get("Content-Range", ""))
            if length and int(length[1]) == self._done:
                return _Complete()
            self._start_over()
            return _Passing(f"{self.source.url} is shorter than the received part; starting over")
        reason = " ".join(f"{self.source.url} answered {error.code} {error.reason}".split())
        if error.code in _PASSING_CODES:
            return _Passing(reason, after=_seconds(error.headers.get("Retry-After", "")))
        return DownloadError(reason)

    def _accept(self, response: Any) -> int | None:
        """Read the headers, and return the length of the whole file if known. Start over if the server does."""
        validator = _validator(response)
        self._check_kind(response)
        length = response.headers.get("Content-Length")
        if length and not re.fullmatch(r"\d{1,18}", length.strip()):
            raise DownloadError(f"{self.source.url} states a malformed length: {length[:40]!r}")
        total = int(length) if length else None
        if response.status == 206:
            stated = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", stated)
            start = int(match[1]) if match else -1
            # Without a published hash, nothing else detects that the rest belongs to another file.
            unknown = not validator and not self.source.hashed
            changed = unknown or bool(self._validator and validator and validator != self._validator)
            if start != self._done or changed:
                self._start_over()
                raise _Passing(f"{self.source.url} has changed, or sent other bytes than asked for")
            total = int(match[2]) if match and match[2].isdecimal() else None
        elif self._done:
            logger.info("%s: the server sends the file from its start", self.source.url)
            self._start_over()
        if total is not None and self.source.size is not None and total != self.source.size:
            raise DownloadError(
                f"{self.source.url} offers {total:,} bytes, and not the {self.source.size:,} that were published"
            )
        self._validator = validator
        entries = {"origin": self.source.origin, "url": self.source.url, "validator": validator}
        with self._writing(total):
            self._meta.write_text(json.dumps(entries), encoding="utf-8")
        return total

    def _check_kind(self, response: Any) -> None:
        """:raises DownloadError: the answer is packed, or, where no published hash would tell, a page of text."""
        if (packed := response.headers.get("Content-Encoding", "identity").strip().lower()) not in (
            "",
            "identity",
        ):
            raise DownloadError(
                f"{self.source.url} sends the file packed with {packed[:40]}, which was not asked for"
            )
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not self.source.hashed and kind in (
            "text/html",
            "application/xhtml+xml",
            "application/xml",
            "text/xml",
        ):
            raise DownloadError(
                f"{self.source.url} answers with a web page ({kind}), not with a file of weights"
            )

    def _receive(self, response: Any, total: int | None) -> None:
        # Unbuffered, so that the bytes on disk are those that were counted.
        with self._writing(total), open(self.part, "ab", buffering=0) as stream:
            self._report(self._done, total)
            try:
                pace = _Pace(self.source.url)
                while block := self._next_block(response):
                    pace.count(len(block))
                    self._check_length(len(block), total)
                    _write_all(stream, block)
                    self._digest.update(block)
                    self._done += len(block)
                    self._received += len(block)
                    self._report(self._done, total)
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(
                    self.part, self._done
                )  # part of a block may have been written before the disk was full
                raise

    def _next_block(self, response: Any) -> bytes:
        try:
            block: bytes = response.read1(
                _BLOCK
            )  # return available bytes, so that a slow connection is detected
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(f"the connection to {self.source.url} broke: {_reason(error)}") from error
        return block

    def _check_length(self, more: int, total: int | None) -> None:
        """:raises DownloadError: the file is longer than was published, or stated, or than any file of weights."""
        stated = self.source.size if self.source.size is not None else total
        if self._done + more > (LARGEST if stated is None else stated):
            longest = f"{LARGEST:,} bytes" if stated is None else f"the {stated:,} bytes that were stated"
            self._start_over()
            raise DownloadError(f"{self.source.url} sends more than {longest}")

    # -- the disk

    def _check_space(self, total: int | None) -> None:
        total = total if total is not None else self.source.size
        if total is not None and shutil.disk_usage(self.part.parent).free < total - self._done:
            raise self._full(total)

    def _writing(self, total: int | None) -> _Writing:
        return _Writing(self, total if total is not None else self.source.size)

    def _full(self, total: int | None) -> DownloadError:
        free = shutil.disk_usage(self.part.parent).free
        need = f"{format_size(total - self._done)} more" if total is not None else "more"
        return DownloadError(
            f"the disk of {self.part.parent} is full: {need} is needed there, {format_size(free)} is free"
        )


class _Writing:
    """Explains an OSError of the block, which writes to the disk."""

    def __init__(self, download: Download, total: int | None) -> None:
        self._download, self._total = download, total

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._download._full(self._total) from error
            raise DownloadError(f"cannot write {self._download.part}: {error.strerror or error}") from error


class _Pace:
    """Detects a connection that is too slow."""

    def __init__(self, url: str) -> None:
        self._url, self._since, self._bytes = url, time.monotonic(), 0

    def count(self, received: int) -> None:
        """:raises _Passing: fewer than :data:`SLOWEST` bytes per second arrived over :data:`SLOW_WINDOW`."""
        self._bytes += received
        elapsed = time.monotonic() - self._since
        if elapsed < SLOW_WINDOW:
            return
        if self._bytes < SLOWEST * elapsed:
            raise _Passing(f"{self._url} stalls: {self._bytes:,} bytes in {elapsed:.0f} s")
        self._since, self._bytes = time.monotonic(), 0


class _Complete(Exception):
    """The server has no bytes beyond the received ones."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, except from https to http."""

    def http_error_302(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # a malformed address
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        problem = ""
        if scheme not in ("http", "https"):
            problem = "not an http address"
        elif req.full_url.lower().startswith("https:") and scheme != "https":
            problem = "not encrypted"
        if problem:
            if fp is not None:
                fp.close()
            raise DownloadError(f"{req.full_url} redirects to {newurl[:200]}, which is {problem}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def part_meta_path(part: Path) -> Path:
    """Return the path of the record of an unfinished download."""
    return part.with_name(f"{part.name}.json")


def _write_all(stream: Any, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[stream.write(rest) :]


def _validator(response: Any) -> str:
    """Return the validator for ``If-Range``: a strong ETag, else the date."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _unreached(url: str, error: object) -> Exception:
    """Return the failure for an error that occurred before any answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return DownloadError(f"the certificate of {url} cannot be verified: {error.verify_message}")
    no_network = isinstance(error, socket.gaierror) or (
        isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    )
    return _Passing(f"cannot reach {url}: {_reason(error)}", unreachable=no_network)


def _is_text(start: bytes) -> bool:
    """Return whether bytes are text: UTF-8 without control characters. A character may be cut at the end."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character in "\t\r\n" for character in text)


def _reason(error: object) -> str:
    """Return an error's text in one line of at most 200 characters: it may quote what a server sent."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
