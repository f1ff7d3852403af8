"""The C library's default behaviour, for benchmarks of code that does not use :mod:`guidelens.allocator`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from guidelens.allocator import glibc, is_keeping, restore_defaults, set_keeping

_SLACK = 1024 * 1024


@contextmanager
def default_allocator(device: torch.device) -> Iterator[None]:
    """Temporarily restore the default allocator behaviour, for fair benchmarks.

    On exit the process allocates as much memory as it returned on entry. The first blocks after that may still cause
    page faults, because the old free blocks may have been in several places. Not thread-safe.
    """
    libc = glibc()
    if libc is None or device.type != "cpu" or not is_keeping():
        yield
        return
    before = _resident()
    restore_defaults(libc)
    returned = before - _resident()
    try:
        yield
    finally:
        set_keeping(libc)
        if returned > 0:
            torch.ones(returned + _SLACK, dtype=torch.uint8)  # the heap grows, and keeps the freed block


def _resident() -> int:
    """Return the resident memory of this process in bytes; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
