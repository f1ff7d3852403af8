"""CUDA graphs on the CPU: a capture keeps its operations, and a replay repeats them on the same tensors.

Like a real graph, a replay reads and writes the addresses of the capture. After a replay of the second graph of a
pool, the memory of the first is overwritten, as later allocations in the pool may do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from guidelens_guided_diffusion import graphs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class FakedGraph:
    """In place of :class:`torch.cuda.CUDAGraph`."""

    made: list[FakedGraph]

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.first: FakedGraph | None = None
        self.replays = 0
        self.made.append(self)

    def pool(self) -> FakedGraph:
        """The graph stands for its own pool."""
        return self

    def replay(self) -> None:
        """Repeat the operations, and write the results to where they were."""
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                for old, new in zip(out, _tensors(func(*args, **kwargs)), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)
            if self.first is not None:
                self.first.overwrite()

    def overwrite(self) -> None:
        """Lose everything that a replay computes."""
        for _, _, _, out in self.calls:
            for tensor in out:
                if tensor.is_floating_point():
                    tensor.fill_(math.nan)


class _Capture(TorchDispatchMode):
    def __init__(self, graph: FakedGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:  # a view follows the tensor that it is of
            self.graph.calls.append((func, args, kwargs or {}, _tensors(out)))
        return out


class FakedStream:
    """In place of :class:`torch.cuda.Stream`."""

    def __init__(self, device: Any = None) -> None:
        self.waited_for: list[Any] = []

    def wait_stream(self, stream: Any) -> None:
        """Note the stream."""
        self.waited_for.append(stream)


@contextmanager
def _capture(
    graph: FakedGraph, *, stream: Any, pool: FakedGraph | None = None, capture_error_mode: str
) -> Iterator[None]:
    graph.first = pool
    with _Capture(graph):
        yield


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def fake_graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakedGraph]:
    """Let the CPU have graphs. Returns the list of all graphs that are made from now on."""
    FakedGraph.made = []
    current = FakedStream()
    monkeypatch.setattr(graphs, "DEVICES", ("cpu",))
    for name, faked in {
        "CUDAGraph": FakedGraph,
        "Stream": FakedStream,
        "graph": _capture,
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
        "current_stream": lambda device: current,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, faked)
    return FakedGraph.made
