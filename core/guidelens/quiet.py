"""Silence warnings of libraries that do not help users. Thread-safe."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# catch_warnings replaces state of the whole process. Two threads inside it at once would restore each other's state.
_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Python warnings in the enclosed block, under a global lock. Blocks may nest. Thread-safe."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
