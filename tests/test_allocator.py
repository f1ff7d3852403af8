"""Freed host memory is kept for the next step: measured by the page faults of later allocations."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from allocator_probe import BYTES
from guidelens import allocator
from guidelens.allocator import keep_freed_memory

PROBE = Path(__file__).with_name("allocator_probe.py")

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, PROBE], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


@needs_glibc
def test_a_freed_block_is_used_again(measured: dict[str, float]) -> None:
    assert measured["before"] > 0.5
    assert measured["inside"] < 0.05
    assert measured["after an inner one"] < 0.05  # the outer one still holds
    assert measured["after"] > 0.5


@needs_glibc
def test_the_default_can_be_restored_temporarily(measured: dict[str, float]) -> None:
    assert measured["inside, default"] > 0.5
    assert measured["inside again"] < 0.05


@needs_glibc
def test_afterwards_blocks_of_usual_sizes_are_kept_as_glibc_keeps_them(measured: dict[str, float]) -> None:
    assert measured["middling"] < 0.05


@needs_glibc
def test_memory_is_returned_at_the_end(measured: dict[str, float]) -> None:
    assert measured["returned"] > BYTES / 2


@needs_glibc
def test_other_devices_change_nothing(measured: dict[str, float]) -> None:
    assert measured["other device"] > 0.5


@needs_glibc
def test_a_stream_keeps_freed_memory_while_it_is_open(measured: dict[str, float]) -> None:
    assert measured["stream open"] < 0.05
    assert measured["stream closed"] > 0.5


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """Has no gnu_get_libc_version, and nothing else to call."""

    allocator.glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other())
    try:
        with keep_freed_memory(torch.device("cpu")):
            pass
    finally:
        allocator.glibc.cache_clear()
