"""Keep host memory that a step has freed for the next one, where the C library would return it to the system.

glibc gives every large block back to the system when it is freed, and the next one comes page by page, each
filled with zeros first. Activations are large blocks, freed and asked for again in every layer: up to a third
of a step on the CPU was spent on that. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

# From malloc.h. How many blocks may be mapped one by one, and how much free memory at the heap's end is kept.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_DEFAULT_MMAP_MAX = 65536
# What glibc's own adaptation of the threshold comes to in a process that uses large blocks.
_LARGEST_TRIM_THRESHOLD = 64 * 1024 * 1024

_LOCK = threading.Lock()
_holders = 0


def kept_heap(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which freed memory stays with the process; it is returned to the system at its end.

    The setting is the process's: it begins with the first context that is entered, and ends with the last one
    that is left. On other devices than the CPU the context does nothing.
    """
    return _kept() if device.type == "cpu" else nullcontext()


@contextmanager
def _kept() -> Iterator[None]:
    global _holders
    libc = _glibc()
    if libc is None:
        yield
        return
    with _LOCK:
        _holders += 1
        if _holders == 1:
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        with _LOCK:
            _holders -= 1
            if _holders == 0:
                libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
                libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)
                libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: on Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
