"""``guidelens explore`` as a process: the link that it prints, Ctrl-C while it draws, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from explorer import events
from guidelens.cli.main import cli

WORLD = str(Path(__file__).parents[1] / "tiny_world.py")
COMMAND = "from guidelens.cli.main import cli; cli()"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")
def test_a_session_that_ctrl_c_ends() -> None:
    words = [sys.executable, "-c", COMMAND, "explore", "-p", WORLD, "--port", "0", "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            link = re.fullmatch(r"open: (http://127\.0\.0\.1:\d+)/\?token=([\w-]{22})\n", line)
            assert link, line
            with httpx.Client(base_url=link[1], follow_redirects=True, timeout=60) as client:
                assert client.get("/").status_code == 403
                assert client.get("/", params={"token": link[2]}).status_code == 200
                request = {
                    "prompt": "a red circle",
                    "schedules": ["turn"],
                    "steps": 1000,
                    "generator": "tiny",
                }
                with client.stream("POST", "/api/draw", json=request) as answer:
                    assert next(events(answer.iter_lines()))
                    process.send_signal(signal.SIGINT)
                    assert process.wait(30) in (0, 130)
            assert "Traceback" not in process.stdout.read()
        finally:
            process.kill()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        result = CliRunner().invoke(cli, ["explore", "-p", WORLD, "--port", port, "--no-open"])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in result.output


def test_an_unknown_model() -> None:
    result = CliRunner().invoke(cli, ["explore", "-p", WORLD, "--guidance", "tiny-v", "--no-open"])
    assert result.exit_code == 2
    assert "did you mean 'tiny-vl'" in result.output


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("guidelens_explore.server", "guidelens.serving"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(cli, ["explore", "-p", WORLD, "--no-open"])
    assert result.exit_code == 1
    assert 'pip install "guidelens[explore]"' in result.output


def test_the_browser_is_opened_with_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import webbrowser

    from guidelens_explore import server

    opened: list[str] = []
    done = threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda address: (opened.append(address), done.set()))
    monkeypatch.setattr(server, "serve_app", lambda app, *, host, port, on_listening: on_listening(port))
    result = CliRunner().invoke(cli, ["explore", "-p", WORLD, "--host", "::1"])
    assert result.exit_code == 0, result.output
    assert done.wait(10)
    assert opened[0].startswith("http://[::1]:8001/?token=")
    assert f"open: {opened[0]}" in result.output
    elsewhere = CliRunner().invoke(cli, ["explore", "-p", WORLD, "--host", "0.0.0.0", "--no-open"])
    assert "plain HTTP can be read on the way" in elsewhere.output
