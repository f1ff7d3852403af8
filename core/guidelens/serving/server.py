"""A server of one application, until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from guidelens.errors import GuidelensError

from .gate import ImpatientProtocol

CONNECTIONS = 1000
"""Connections at once; more get 503."""

LAST_SECONDS = 2
"""How long answers that are being sent may take once the server is to stop."""


def serve_app(
    app: ASGIApp, *, host: str, port: int, on_listening: Callable[[int], None] = lambda port: None
) -> None:
    """Serve an application until interrupted.

    :param host: the address to listen on.
    :param on_listening: called with the port (chosen by the system for port 0) once browsers can connect.
    :raises GuidelensError: where the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off (40 ms for a picture after its head) only where the protocol is named.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            raise GuidelensError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        listener.listen(2048)
        on_listening(listener.getsockname()[1])
        # No access log: it would keep addresses together with codes. No proxy headers: anyone can send them.
        # People think for longer than the usual five seconds: keep their connections.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            http=ImpatientProtocol,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])
