"""The explorer over a tiny world, served from a thread: for tests of requests and of the page."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from guidelens import PluginManager, hookimpl

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of all tests
import tiny_world
from guidelens_explore.server import create_app
from tiny_world import TinyGenerator

TOKEN = "a-token-for-tests"


class Gated(TinyGenerator):
    """A generator whose steps wait until a test lets them through."""

    gate = threading.Event()
    steps = 0

    def __call__(self, x_t: Any, timesteps: Any, /) -> Any:
        assert self.gate.wait(30)
        Gated.steps += 1
        return super().__call__(x_t, timesteps)


def _broken() -> TinyGenerator:
    raise ValueError("its weights\nare gone")


class SlowWorld:
    """Further generators of the tiny world: one that waits, one that cannot be built."""

    @staticmethod
    @hookimpl
    def register_generators(register: Any) -> None:
        register("gated", Gated, summary="waits for a test")
        register("broken", _broken, summary="cannot be built")


def tiny_plugins() -> PluginManager:
    return PluginManager.load([tiny_world, SlowWorld], environment={})


@contextmanager
def served(plugins: PluginManager, **options: Any) -> Iterator[str]:
    """Serve the explorer from a thread and yield its address."""
    app = create_app(plugins, token=TOKEN, device="cpu", **options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def visitor(address: str) -> Iterator[httpx.Client]:
    """A browser that has opened the link."""
    with httpx.Client(base_url=address, timeout=60, follow_redirects=True) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Read server-sent events."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def drawn(client: httpx.Client, request: dict[str, Any]) -> list[tuple[str, Any]]:
    """Draw to the end and return all events."""
    with client.stream("POST", "/api/draw", json=request) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(events(answer.iter_lines()))
