"""Connect to a Ray cluster, or start one on this machine, and detect when its head is gone."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError

LOCAL = "local"
KNOCK_SECONDS = 1.0
"""Seconds between checks of the head."""
REFUSALS = 3
"""After this number of checks in a row without an answer, the head counts as gone."""

_STORE_BYTES = 256 * 2**20  # for a local cluster; tasks and outcomes are small
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # otherwise workers run at low priority, unlike a single process
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; Ray warns without it
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""With this, Ray uses 127.0.0.1 as the address of the machine on every system."""
_LONGEST_SOCKET = 107
"""Largest length in bytes of a Unix socket's path on Linux. macOS has 103, but Ray uses /tmp there."""
_BELOW_TEMPORARY = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_UNAUTHENTICATED = re.compile("InvalidAuthToken|Unauthenticated|authentication token", re.IGNORECASE)
_LOG_LINE = re.compile(r"\[\d{4}-\d\d-\d\d [\d:,.]+ [A-Z] ")


@dataclass(frozen=True)
class RayOptions:
    """How to distribute work.

    :param workers: number of actors; None: as many as fit into the cluster.
    :param threads: number of cores and threads per actor.
    :param address: address of a running cluster (``auto``, ``HOST:PORT``, ``ray://HOST:PORT``); ``local`` starts one
        on this machine and ends it afterwards.
    """

    workers: int | None = None
    threads: int = 1
    address: str = LOCAL

    def __post_init__(self) -> None:
        for what, value in (("workers", self.workers), ("threads per worker", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{value} {what}: give at least 1")


@contextmanager
def connection(options: RayOptions) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, and disconnect at the end. An existing connection of the
    caller is used and kept.

    :raises GuidelensError: the cluster cannot be reached or started, or requires another token.
    """
    local = options.address == LOCAL
    variables = {**_QUIET, **(_LOOPBACK if local else _authentication())}
    with _environment(variables):
        import ray  # Ray reads some of these on import

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with ExitStack() as stack:
        stack.enter_context(_environment(variables))
        if local:
            quiet |= _local_cluster(options, stack)
        else:
            knock(options.address)
        with _log_lines() as logged:
            try:
                ray.init(address=options.address, **quiet)
            except (
                ray.exceptions.RayError,
                ConnectionError,
                RuntimeError,
                ValueError,
                OSError,
            ) as error:
                raise _no_cluster(options.address, error, logged()) from error
        stack.callback(ray.shutdown)
        yield


def _local_cluster(options: RayOptions, stack: ExitStack) -> dict[str, Any]:
    """Return Ray's options for a cluster on this machine. They are valid while ``stack`` is open."""
    cores = os.cpu_count() or 1
    workers = options.workers or max(1, cores // options.threads)
    settings = {
        "num_cpus": workers * options.threads,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }
    short = _short_directory()
    return settings if short is None else {**settings, "_temp_dir": stack.enter_context(short)}


def _short_directory() -> tempfile.TemporaryDirectory[str] | None:
    """Return a directory for Ray's sockets if the path of the usual one is too long, else None."""
    if "RAY_TMPDIR" in os.environ or sys.platform != "linux":
        return None
    if len(os.fsencode(tempfile.gettempdir())) + _BELOW_TEMPORARY <= _LONGEST_SOCKET:
        return None
    for folder in (Path("/tmp"), Path("/var/tmp"), Path.home()):
        if os.access(folder, os.W_OK):
            return tempfile.TemporaryDirectory(prefix="gl-", dir=folder, ignore_cleanup_errors=True)
    raise GuidelensError(
        f"the path of the temporary directory {tempfile.gettempdir()} is too long for Ray's sockets: set RAY_TMPDIR to "
        "a short one"
    )


# -- authentication


def _authentication() -> dict[str, str]:
    """Return the variable that makes Ray use this user's token, if there is one. Ray itself uses it only for
    ``auto``. A cluster without authentication also accepts connections with a token.
    """
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return {"RAY_AUTH_MODE": "token"} if has_token or _token_file().is_file() else {}


def _token_file() -> Path:
    return Path.home() / ".ray" / "auth_token"


@contextmanager
def _log_lines() -> Iterator[Callable[[], str]]:
    """Capture what Ray's library logs to stderr, and yield a function that returns it. Other lines are printed."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        outer = os.dup(2)
        os.dup2(kept.fileno(), 2)

        def read() -> str:
            size = kept.seek(0, os.SEEK_END)
            kept.seek(0)
            return kept.read(size).decode(errors="replace")

        try:
            yield read
        finally:
            sys.stderr.flush()
            os.dup2(outer, 2)
            os.close(outer)
            others = [line for line in read().splitlines(keepends=True) if not _LOG_LINE.match(line)]
            sys.stderr.write("".join(others))


# -- whether a cluster is there


def knock(address: str) -> None:
    """Check that something listens at an address. Otherwise Ray would try for minutes and then end the process.

    :raises GuidelensError: nothing answers at ``HOST:PORT`` or ``ray://HOST:PORT``. Other addresses are not checked.
    """
    place = _host_and_port(address)
    if place is None:
        return
    try:
        socket.create_connection(place, timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


class HeadWatch:
    """Detects that the head of a cluster is gone, because nothing listens at its address. Ray itself waits a minute
    for a new head and then ends the process.

    :param address: address of the head, ``HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        self._place = _host_and_port(address)
        self._refusals = 0
        self._last = time.monotonic()

    def is_gone(self) -> bool:
        """Check at most every :data:`KNOCK_SECONDS`. Return True after :data:`REFUSALS` checks in a row without an
        answer."""
        if self._place is None or time.monotonic() - self._last < KNOCK_SECONDS:
            return False
        self._last = time.monotonic()
        try:
            socket.create_connection(self._place, timeout=10).close()
            self._refusals = 0
        except OSError:
            self._refusals += 1
        return self._refusals >= REFUSALS


def leave_with_head(address: str) -> None:
    """End this process soon after the head of its cluster is gone.

    :param address: address of the head, ``HOST:PORT``.
    """
    watch = HeadWatch(address)

    def look() -> None:
        while not watch.is_gone():
            time.sleep(KNOCK_SECONDS)
        os._exit(1)  # nobody can receive the result of a computation in another thread

    threading.Thread(target=look, daemon=True, name="guidelens-head-watch").start()


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Return the parts of ``HOST:PORT``; None for ``auto`` and other names that Ray resolves."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    return (host.strip("[]"), int(port)) if port.isascii() and port.isdecimal() and len(port) < 6 else None


def _no_cluster(address: str, error: BaseException, logged: str = "") -> GuidelensError:
    if _UNAUTHENTICATED.search(logged) or _UNAUTHENTICATED.search(str(error)):
        return GuidelensError(
            f"the Ray cluster at {address!r} asks for a token, and this process has none or another one: put the "
            f"cluster's token into RAY_AUTH_TOKEN or {_token_file()} (`ray get-auth-token` on its head prints it)"
        )
    return GuidelensError(
        f"no Ray cluster at {address!r}: {in_short(error)}; "
        "`ray start --head` starts one, and without --address this machine is used"
    )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set missing environment variables for processes that are started inside the block."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def in_short(error: BaseException) -> str:
    """Return the first line of an error's text, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
