"""Keep freed host memory in the process, so that the next sampling step can use it again.

glibc returns large blocks to the system as soon as they are freed. The next block of that size is mapped page by page,
and the kernel fills each page with zeros. Activations are large blocks that every layer frees and allocates again. On
the CPU this took up to a third of the time of a step. Other C libraries are not changed.
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

# Parameters of mallopt, from malloc.h: the free memory kept at the top of the heap, the smallest size of a block that
# is mapped, and the largest number of mapped blocks.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX = 65536
# In a process that uses large blocks, glibc raises both thresholds to these values by itself. Setting any parameter
# switches this adaptation off. With the initial threshold of 128 KiB, every larger block would then be mapped.
_LARGEST_MMAP_THRESHOLD = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
_LARGEST_TRIM_THRESHOLD = 2 * _LARGEST_MMAP_THRESHOLD

_LOCK = threading.Lock()
_open_contexts = 0


def keep_freed_memory(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which the process keeps the memory that it frees.

    The setting applies to the whole process. It is set when the first context opens and reset when the last one closes.
    The memory is then returned to the system. For devices other than the CPU the context does nothing.
    """
    return _kept() if device.type == "cpu" else nullcontext()


@contextmanager
def _kept() -> Iterator[None]:
    global _open_contexts
    libc = glibc()
    if libc is None:
        yield
        return
    with _LOCK:
        _open_contexts += 1
        if _open_contexts == 1:
            set_keeping(libc)
    try:
        yield
    finally:
        with _LOCK:
            _open_contexts -= 1
            if _open_contexts == 0:
                restore_defaults(libc)


def is_keeping() -> bool:
    """Return whether any context of :func:`keep_freed_memory` is open."""
    return _open_contexts > 0


def set_keeping(libc: Any) -> None:
    """Make glibc keep all freed memory and not map blocks."""
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def restore_defaults(libc: Any) -> None:
    """Restore glibc's thresholds and return free memory to the system."""
    libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)
    libc.malloc_trim(0)


@cache
def glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: on Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
