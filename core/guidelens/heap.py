"""Keep host memory that a step has freed for the next one, where the C library would return it to the system.

glibc gives every large block back to the system when it is freed, and the next one comes page by page, each
filled with zeros first. Activations are large blocks, freed and asked for again in every layer: up to a third
of a step on the CPU was spent on that. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

# From malloc.h. How much free memory at the heap's end is kept; from which size on, and how many, blocks are mapped.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX = 65536
# What glibc's own adaptation of the thresholds comes to in a process that uses large blocks. Setting any of these
# ends the adaptation: left at the 128 KiB it starts from, every larger block would be mapped ever after.
_LARGEST_MMAP_THRESHOLD = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
_LARGEST_TRIM_THRESHOLD = 2 * _LARGEST_MMAP_THRESHOLD

_SLACK = 1024 * 1024

_LOCK = threading.Lock()
_holders = 0


def kept_heap(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which freed memory stays with the process; it is returned to the system at its end.

    The setting is the process's: it begins with the first context that is entered, and ends with the last one
    that is left. On other devices than the CPU the context does nothing.
    """
    return _kept() if device.type == "cpu" else nullcontext()


@contextmanager
def returned_heap(device: torch.device) -> Iterator[None]:
    """Let freed memory go back to the system meanwhile, whoever keeps it: to measure code that knows of no such thing.

    At the end as much is taken again for whoever keeps it; the first blocks after it may still be paid for once
    more, where free ones lay between used ones. Not for several threads at once.
    """
    libc = _glibc()
    if libc is None or device.type != "cpu" or _holders == 0:
        yield
        return
    held = _resident()
    _give_back(libc)
    given = held - _resident()
    try:
        yield
    finally:
        _keep(libc)
        _take(given)


def _resident() -> int:
    """Bytes of the process in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _take(size: int) -> None:
    """Let the heap grow by about this many bytes, which then are the process's."""
    import torch

    if size > 0:
        torch.ones(size + _SLACK, dtype=torch.uint8)


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
            _keep(libc)
    try:
        yield
    finally:
        with _LOCK:
            _holders -= 1
            if _holders == 0:
                _give_back(libc)


def _keep(libc: Any) -> None:
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def _give_back(libc: Any) -> None:
    libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
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
