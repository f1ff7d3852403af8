"""Checks of every request: hosts, origins and path prefix. Security headers, and time limits of connections."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

HEAD_SECONDS = 20.0
"""Time limit in seconds for a connection to send the head of a request."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
}
NO_STORE = "no-store"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(.+)")


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def shown_host(host: str) -> str:
    """Return a host as addresses write it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class Gate:
    """Refuse requests for other hosts and forms from other sites, and add security headers to every answer.

    :param local: requests must name this machine as host. This prevents access from web pages by DNS rebinding.
    :param refusal: makes the page of a refused request from its status and message.
    :param prefix: path below which a proxy shows the pages, such as ``/rate``; the proxy may take it off or not.
    """

    def __init__(
        self, app: ASGIApp, *, local: bool, refusal: Callable[[int, str], Response], prefix: str = ""
    ) -> None:
        self.app, self.local, self.prefix, self.refusal = app, local, prefix, refusal
        self._warned: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def safe_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", NO_STORE)
            await send(message)

        problem = self._problem(scope["method"], Headers(scope=scope))
        app = self.app if problem is None else self.refusal(*problem)
        await app(self._below_prefix(scope), receive, safe_send)

    def _problem(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Return status and message for a request that is refused."""
        host = _host_of(headers.get("host", ""))
        origin = headers.get("origin")
        if host is None or (origin not in (None, "null") and _origin_host(origin or "") is None):
            return 400, "This request cannot be read."
        if self.local and not is_loopback(host):
            self._warn(
                host, "", "a request for %r%s was refused: this server is for this machine only; see --host"
            )
            return 400, "This page is not served here."
        if method == "POST":
            if (
                headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
                or origin == "null"
            ):
                return 403, "This form came from another site."
            if origin is not None and _origin_host(origin) != host:
                self._warn(
                    origin,
                    host,
                    "a form from %s was refused because its request names the host %r; "
                    "if both are this server, let the proxy pass the Host header on",
                )
                return 403, "This form came from another site."
        return None

    def _warn(self, first: str, second: str, message: str) -> None:
        """Log a refusal once per pair of hosts, and for a few pairs only, as anyone can send such requests."""
        if (first, second) not in self._warned and len(self._warned) < 20:
            self._warned.add((first, second))
            logger.warning(message, first, second)

    def _below_prefix(self, scope: Scope) -> Scope:
        path: str = scope["path"]
        if self.prefix and (path == self.prefix or path.startswith(f"{self.prefix}/")):
            path = path.removeprefix(self.prefix) or "/"
            return {**scope, "path": path, "raw_path": path.encode()}
        return scope


def _host_of(text: str) -> str | None:
    """Return the host of a Host header, or None for one that is malformed."""
    match = _HOST.fullmatch(text)
    return match[1].strip("[]").lower() if match else None


def _origin_host(text: str) -> str | None:
    match = _ORIGIN.fullmatch(text)
    return _host_of(match[1]) if match else None


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 with a time limit: a connection closes if a request's head takes longer than :data:`HEAD_SECONDS`.

    uvicorn alone has no limit for the first request of a connection, and for the rest of an incomplete head.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time limit for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Continue the time limit while the head is incomplete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
