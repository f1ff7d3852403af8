"""Connecting to a Ray cluster, without one: tokens, long paths, a head that is gone."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from guidelens.executors import ray_cluster
from guidelens.executors.ray_cluster import (
    HeadWatch,
    RayOptions,
    _authentication,
    _local_cluster,
    _log_lines,
    _no_cluster,
)


def test_a_long_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long-" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with ExitStack() as stack:
        folder = Path(_local_cluster(RayOptions(workers=1), stack)["_temp_dir"])
        assert folder.is_dir()
        assert len(str(folder)) < 40
    assert not folder.exists()
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    with ExitStack() as stack:
        assert "_temp_dir" not in _local_cluster(RayOptions(workers=1), stack)


def test_a_head_that_is_gone_is_noticed_in_three_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "KNOCK_SECONDS", 0.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        watch = HeadWatch(f"127.0.0.1:{listener.getsockname()[1]}")
        assert not any(watch.is_gone() for _ in range(5))
    assert [watch.is_gone() for _ in range(3)] == [False, False, True]
    assert not HeadWatch("auto").is_gone()


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            "RPC error: InvalidAuthToken: x\n",
        ),
        (RuntimeError("Token authentication is enabled but no authentication token was found. Ensure"), ""),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_one_line(error: Exception, logged: str) -> None:
    told = str(_no_cluster("10.0.0.1:6379", error, logged))
    assert "asks for a token, and this process has none or another one" in told
    assert "RAY_AUTH_TOKEN" in told
    assert "\n" not in told
    assert "asks for a token" not in str(
        _no_cluster("10.0.0.1:6379", ConnectionError("refused"), "I am here")
    )


def test_a_token_at_hand_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert _authentication() == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    assert _authentication() == {"RAY_AUTH_MODE": "token"}
    (tmp_path / ".ray" / "auth_token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    assert _authentication() == {"RAY_AUTH_MODE": "token"}


def test_what_rays_library_logs_is_kept_and_the_rest_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with _log_lines() as logged:
        os.write(
            2, b"[2026-01-01 00:00:00,027 W 1 1] gcs_client.cc:210: InvalidAuthToken\nnot a line of Ray\n"
        )
        assert "InvalidAuthToken" in logged()
    assert capfd.readouterr().err == "not a line of Ray\n"
