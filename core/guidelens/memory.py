"""Memory: predict how many pictures fit at once, and split a batch that does not fit."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from .errors import GuidelensError

T = TypeVar("T")

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64
"""The largest predicted batch size. Larger batches take almost the same time per picture."""

_SHARE_USED = 0.8
_WORTHWHILE = 0.05
_HEADROOM = 1.5
"""The ratio of all memory in use, including workspaces, to the tensors that autograd saves."""
_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN's, on the CPU
    "could not create a memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device, or the host, is out of memory."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def _in_short(error: Exception) -> str:
    """Return the first line of a message, without the PyTorch source location."""
    first = str(error).partition("\n")[0] or type(error).__name__
    return first.partition("err == 0. ")[2] or first


class MicroBatches:
    """Evaluates a batch in pieces that fit into memory, and remembers the size that fitted.

    A piece that does not fit is halved and evaluated again. Finished pieces are kept. Samples do not depend on their
    neighbours, so splitting changes results only by rounding. Thread-safe.

    :param relieve: called if a single sample does not fit. It reduces the memory that a sample needs, for example
        by recomputing activations, and returns True. It returns False if it cannot.
    """

    def __init__(self, relieve: Callable[[], bool] = lambda: False) -> None:
        self._relieve = relieve
        self._lock = threading.Lock()
        self._told = False
        self._relieved = 0
        self.limit: int | None = None
        """The largest piece to try. None until a piece has failed."""

    def run(self, count: int, evaluate: Callable[[range], T]) -> list[T]:
        """Evaluate ``range(count)`` piece by piece, and return the results in order.

        :raises GuidelensError: if a single sample does not fit.
        """
        parts: list[T] = []
        start = 0
        while start < count:
            size = count - start if self.limit is None else min(self.limit, count - start)
            relieved = self._relieved
            try:
                parts.append(evaluate(range(start, start + size)))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = _in_short(error)
            else:
                start += size
                continue
            # Outside the handler, because the traceback references the failed attempt's tensors until it is freed.
            self._shrink(size, reason, relieved)
        return parts

    def _shrink(self, size: int, reason: str, relieved: int) -> None:
        gc.collect()  # autograd graphs with custom functions contain reference cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with self._lock:
            if (self.limit is not None and self.limit < size) or self._relieved > relieved:
                return  # another thread has handled the same failure
            if size == 1:
                if not self._relieve():
                    raise GuidelensError(
                        f"not even one picture fits into memory ({reason}); use --dtype bfloat16, --through x0,"
                        " a smaller model, or a device with more memory"
                    )
                self._relieved += 1
                logger.warning("one picture did not fit into memory: activations are recomputed from now on")
                return
            self.limit = size // 2
            level = logging.INFO if self._told else logging.WARNING
            self._told = True
        logger.log(
            level,
            "%d pictures at once do not fit into memory (%s); continuing with %d",
            size,
            reason,
            size // 2,
        )


def predict_batch(measure: Callable[[int], int], available: int | None) -> int:
    """Return how many samples should fit at once, 1 to :data:`LARGEST_BATCH`.

    :param measure: evaluates a batch of the given size and returns the bytes it used.
    :param available: free memory in bytes; None: unknown.
    """
    one, two = measure(1), measure(2)
    per_sample = two - one  # the difference cancels memory that does not grow with the batch, such as weights
    if available is None or per_sample <= 0:
        return LARGEST_BATCH
    fitting = int(available * _SHARE_USED) // per_sample
    return max(1, min(LARGEST_BATCH, fitting))


def knee(seconds: Callable[[int], float], largest: int) -> int:
    """Return the batch size above which throughput hardly increases: 1, 2, 4, ... or ``largest``.

    The size is doubled as long as that reduces the time per picture by at least the share :data:`_WORTHWHILE`.

    :param seconds: evaluates a batch of the given size and returns its time in seconds.
    :param largest: the size that fits into memory.
    """
    best, per_picture = 1, seconds(1)
    while best < largest:
        size = min(2 * best, largest)
        now = seconds(size) / size
        if now > (1 - _WORTHWHILE) * per_picture:
            break
        best, per_picture = size, now
    return best


def elapsed(evaluate: Callable[[], object], device: torch.device) -> float:
    """Return the time of an evaluation in seconds. Synchronises with the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    evaluate()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def bytes_used(evaluate: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of an evaluation in bytes, above what was in use before.

    On CUDA the allocator reports it. Elsewhere it is estimated: 1.5 times the tensors that autograd saves.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        evaluate()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        evaluate()
    return int(sum(kept.values()) * _HEADROOM)


def available_memory(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes; on the CPU, what this process can use. None if it is unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type == "mps":
        total = getattr(torch.mps, "recommended_max_memory", None)
        return None if total is None else total() - torch.mps.driver_allocated_memory()
    limits = [found for found in (_host_available(), _cgroup_available()) if found is not None]
    return min(limits) if limits else None


def _host_available(source: Path = Path("/proc/meminfo")) -> int | None:
    try:
        lines = source.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_available(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory left under a container's limit (cgroup v2, then v1). The inactive file cache counts as free."""
    for limit, usage, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            free = int((root / limit).read_text()) - int((root / usage).read_text())
            lines = [line.split() for line in (root / stat).read_text().splitlines()]
        except (OSError, ValueError):  # absent, or "max": no limit
            continue
        return max(0, free + sum(int(value) for name, value in lines if name == "inactive_file"))
    return None
