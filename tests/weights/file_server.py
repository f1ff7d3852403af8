"""A local HTTP server that misbehaves as a test wants (cuts connections, refuses ranges, changes its file), and a file
to fetch from it."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from guidelens.weights import Fetched, WeightsFile, fetch

CONTENT = random.Random(0).randbytes(700_000)


@dataclass
class Behaviour:
    """What the server does; tests change it between, or within, requests."""

    content: bytes
    ranges: bool = True
    """Honour ``Range``; else always answer 200 with the whole file."""
    validators: bool = True
    """Send an ETag, and honour ``If-Range``."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes to cut each next response, while there are entries."""
    statuses: list[int] = field(default_factory=list)
    """Status of each next response in place of an answer, while there are entries."""
    redirect: str = ""
    """Where requests for ``/moved`` go."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of answers with content, in place of or beside the usual ones."""
    drip: float = 0.0
    """Seconds to wait after each byte of content."""
    claims: int | None = None
    """Length to announce in place of the true one."""
    on_request: Callable[[int], None] = lambda number: None
    """Called with the number of the request (from 1) before it is answered."""
    seen: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, lower-case, with ``path``."""
    sent: int = 0
    """Bytes of bodies sent so far."""

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """Serve on a free local port while the block runs; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, behaviour)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    behaviour.seen.append({**headers, "path": request.path})
    behaviour.on_request(len(behaviour.seen))
    if behaviour.statuses:
        status = behaviour.statuses.pop(0)
        request.send_response(status)
        request.send_header("Content-Length", "0")
        if status in (429, 503):
            request.send_header("Retry-After", "7")
        request.end_headers()
        return
    if request.path.endswith("/moved"):
        request.send_response(302)
        request.send_header("Location", behaviour.redirect)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    start = first_byte(headers, behaviour)
    if start and start >= len(behaviour.content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(behaviour.content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = behaviour.content[start:]
    request.send_response(206 if start else 200)
    if start:
        end = len(behaviour.content)
        request.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
    if behaviour.validators:
        request.send_header("ETag", behaviour.etag)
    usual = {"Content-Length": str(behaviour.claims or len(body))}
    for name, value in {**usual, **behaviour.headers}.items():
        if value:
            request.send_header(name, value)
    request.end_headers()
    if behaviour.cuts:
        body = body[: behaviour.cuts.pop(0)]
    behaviour.sent += len(body)
    if behaviour.drip:
        drip(request, body, behaviour.drip)
    else:
        with suppress(OSError):  # the client has had enough
            request.wfile.write(body)
    request.close_connection = True


def drip(request: BaseHTTPRequestHandler, body: bytes, pause: float) -> None:
    """Send bytes one by one until the client hangs up."""
    with suppress(OSError):
        for position in range(len(body)):
            request.wfile.write(body[position : position + 1])
            time.sleep(pause)


def first_byte(headers: dict[str, str], behaviour: Behaviour) -> int:
    """Return where the answer starts: 0 unless a range is asked for, honoured, and still of the same file."""
    if "range" not in headers or not behaviour.ranges:
        return 0
    if behaviour.validators and headers.get("if-range", behaviour.etag) != behaviour.etag:
        return 0
    return int(headers["range"].removeprefix("bytes=").removesuffix("-"))


@dataclass
class World:
    """A server, the file that it offers, and how long fetching slept."""

    behaviour: Behaviour
    address: str
    file: WeightsFile
    path: Path
    pauses: list[float] = field(default_factory=list)

    def fetch(self, **changes: Any) -> Fetched:
        """Fetch the file, with some of its fields changed."""
        return fetch(replace(self.file, **changes), sleep=self.pauses.append)

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    def left(self) -> set[str]:
        """The visible files in the directory of the file."""
        folder = self.path.parent
        return {p.name for p in folder.iterdir() if not p.name.startswith(".")} if folder.is_dir() else set()
