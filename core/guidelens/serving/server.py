"""Serve one application until interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from guidelens.errors import GuidelensError

from .gate import ImpatientProtocol

CONNECTIONS = 1000
"""Largest number of connections at once. Further ones get status 503."""

LAST_SECONDS = 2
"""Time limit in seconds for unfinished answers when the server stops."""


def serve_app(
    app: ASGIApp, *, host: str, port: int, on_listening: Callable[[int], None] = lambda port: None
) -> None:
    """Serve an application until interrupted.

    :param host: the address to listen on.
    :param on_listening: called with the port (chosen by the system for port 0) once browsers can connect.
    :raises GuidelensError: cannot listen on the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm (a delay of 40 ms per picture) only if the protocol is given.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            raise GuidelensError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        listener.listen(2048)
        on_listening(listener.getsockname()[1])
        # No access log, as it would link addresses to codes. No proxy headers, as anyone can send them.
        # People think longer than the default of five seconds, so keep their connections.
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
