"""Measures, in a process of its own, what a large block costs with and without keeping freed memory; prints JSON.

A process that has done other things has free blocks in several places, which would distort the result.
"""

from __future__ import annotations

import json
import resource

import torch
from guidelens.allocator import keep_freed_memory
from guidelens.bench.default_allocator import default_allocator
from guidelens.engine import Engine, Sample
from guidelens.sampling import Sampling
from toys import GaussianGenerator

CPU = torch.device("cpu")
BYTES = 48 * 2**20
MIDDLING = 12 * 2**20
"""Of a size that glibc by itself comes to keep, once one has been freed."""
LARGER = 4 * BYTES
"""More than any gap that blocks of the former size may have left in the heap."""


def faults_of_a_block(size: int = BYTES, tries: int = 8) -> float:
    """Page faults per page of writing to a block larger than what glibc keeps by itself: once blocks fit, at best.

    An aligned block may need a few more bytes than the last one of its size left free.
    """
    found = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(size, dtype=torch.uint8)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(found[tries // 2 :]) / (size // resource.getpagesize())


def resident() -> int:
    """Bytes of the process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure() -> dict[str, float]:
    """Return page faults per page by situation, and the bytes that came back."""
    found = {"before": faults_of_a_block()}
    with keep_freed_memory(torch.device("cuda")):
        found["other device"] = faults_of_a_block()
    with keep_freed_memory(CPU):
        found["inside"] = faults_of_a_block()
        with keep_freed_memory(CPU):
            pass
        found["after an inner one"] = faults_of_a_block()
        with default_allocator(CPU):
            found["inside, default"] = faults_of_a_block(LARGER)
        found["inside again"] = faults_of_a_block(LARGER)
        inside = resident()
    found["returned"] = inside - resident()
    found["after"] = faults_of_a_block(4 * LARGER)
    found["middling"] = faults_of_a_block(MIDDLING)
    stream = Engine(GaussianGenerator(), None, Sampling(steps=3), device="cpu").stream([Sample("", None)])
    next(stream)
    found["stream open"] = faults_of_a_block()
    stream.close()
    found["stream closed"] = faults_of_a_block(4 * LARGER)
    return found


if __name__ == "__main__":
    print(json.dumps(measure()))
