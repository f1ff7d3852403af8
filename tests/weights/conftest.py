"""A cache of weights in a temporary directory, a local server, and a file to fetch from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import CONTENT, Behaviour, World, serving
from guidelens.weights import WeightsFile


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path / "cache"))
    for name in ("GUIDELENS_OFFLINE", "GUIDELENS_MIRROR", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def server() -> Behaviour:
    return Behaviour(CONTENT)


@pytest.fixture
def world(server: Behaviour, cache: Path) -> Iterator[World]:
    with serving(server) as address:
        url = f"{address}/some/net.pt"
        file = WeightsFile("net", "net.pt", url, size=len(CONTENT), sha256=server.sha256)
        yield World(server, address, file, cache / "weights" / "net" / "net.pt")
