"""Ctrl-C in two steps: the first asks a long computation to stop at the next safe point, the second stops it now."""

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
    """Yield a function that returns whether SIGINT or SIGTERM has arrived since the block began.

    The first signal writes ``message`` to stderr. The second raises :class:`KeyboardInterrupt` as usual.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Write to the descriptor: the signal may have interrupted a write to the stream.
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
