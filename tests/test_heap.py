"""Freed host memory that stays for the next step: seen in the page faults of what is allocated next."""

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
from guidelens import heap
from guidelens.heap import kept_heap
from heap_probe import BYTES

PROBE = Path(__file__).with_name("heap_probe.py")

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
def test_it_can_be_given_back_meanwhile(measured: dict[str, float]) -> None:
    assert measured["inside, given back"] > 0.5
    assert measured["inside again"] < 0.05


@needs_glibc
def test_afterwards_blocks_of_usual_sizes_are_kept_as_glibc_keeps_them(measured: dict[str, float]) -> None:
    assert measured["middling"] < 0.05


@needs_glibc
def test_memory_is_returned_at_the_end(measured: dict[str, float]) -> None:
    assert measured["returned"] > BYTES / 2


@needs_glibc
def test_other_devices_are_none_of_its_business(measured: dict[str, float]) -> None:
    assert measured["other device"] > 0.5


@needs_glibc
def test_a_stream_keeps_the_heap_while_it_is_open(measured: dict[str, float]) -> None:
    assert measured["stream open"] < 0.05
    assert measured["stream closed"] > 0.5


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """Has no gnu_get_libc_version, and nothing else to call."""

    heap._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other())
    try:
        with kept_heap(torch.device("cpu")):
            pass
    finally:
        heap._glibc.cache_clear()
