"""Web pages of this machine, for commands that serve some: safe requests and answers, and a server until Ctrl-C.

Needs uvicorn and starlette, which the extras of those commands bring.
"""

from __future__ import annotations

from .gate import Gate, is_loopback, shown_host
from .server import serve_app

__all__ = ["Gate", "is_loopback", "serve_app", "shown_host"]
