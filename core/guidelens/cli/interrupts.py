"""Ctrl-C in two steps: the first asks a long computation to stop where it can, the second stops it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

PATIENCE = "finishing the pictures in flight; Ctrl-C again stops at once"


@contextmanager
def gentle_interrupts(message: str) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM has come while the block runs.

    The first writes ``message`` to stderr; the second raises :class:`KeyboardInterrupt` as usual.
    """
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield lambda: False
        return
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not through a stream: the signal may have come while one was being written to.
        os.write(sys.stderr.fileno() if _has_descriptor() else 2, f"\n{message}\n".encode())

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True
