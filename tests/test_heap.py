"""Freed host memory that stays for the next step: seen in the page faults of what is allocated next."""

from __future__ import annotations

import ctypes
import platform
import resource

import pytest
import torch
from guidelens import heap
from guidelens.engine import Engine, Sample
from guidelens.heap import kept_heap
from toys import GaussianGenerator

CPU = torch.device("cpu")
BYTES = 48 * 2**20
PAGES = BYTES // resource.getpagesize()

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")


def faults_of_a_block() -> int:
    """Page faults of writing to a block larger than what glibc keeps by itself: once blocks fit, and at best.

    An aligned block may need a few more bytes than the last one of its size left free.
    """
    found = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(BYTES, dtype=torch.uint8)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(found[4:])


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)


@needs_glibc
def test_a_freed_block_is_used_again() -> None:
    assert faults_of_a_block() > PAGES / 2
    with kept_heap(CPU):
        assert faults_of_a_block() < PAGES / 20
        with kept_heap(CPU):
            pass
        assert faults_of_a_block() < PAGES / 20  # the outer one still holds
    assert faults_of_a_block() > PAGES / 2


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@needs_glibc
def test_memory_is_returned_at_the_end() -> None:
    with kept_heap(CPU):
        faults_of_a_block()
        inside = resident()
    assert resident() < inside - BYTES / 2


@needs_glibc
def test_other_devices_are_none_of_its_business() -> None:
    with kept_heap(torch.device("cuda")):
        assert faults_of_a_block() > PAGES / 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """Has no gnu_get_libc_version, and nothing else to call."""

    heap._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other())
    try:
        with kept_heap(CPU):
            pass
    finally:
        heap._glibc.cache_clear()


@needs_glibc
def test_a_stream_keeps_the_heap_while_it_is_open() -> None:
    stream = Engine(GaussianGenerator(), None, steps=3, device="cpu").stream([Sample("", None)])
    next(stream)
    assert faults_of_a_block() < PAGES / 20
    stream.close()
    assert faults_of_a_block() > PAGES / 2
