"""Silence the warnings of libraries that help no user, whatever other threads do meanwhile."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# catch_warnings swaps process-wide state: two threads inside it at once would restore each other's.
_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Python warnings for the enclosed block, under one lock for all. May nest; safe from any thread."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
