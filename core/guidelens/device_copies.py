"""Tensors between host and device without waiting: pinned uploads, and readings that arrive later."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return ``values`` on the device, without waiting for the copy where that is safe.

    On CUDA it is: ordinary memory has been read when the call returns. An Apple GPU reads it later, when a
    temporary tensor may be gone and its memory hold other numbers (pytorch/pytorch issue 189690).
    """
    return values.to(device, non_blocking=device.type == "cuda")


def upload(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``values`` on the device; on CUDA through pinned memory, so that the copy overlaps computation."""
    values = values.to(dtype)
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return to_device(values, device)


class HostCopy:
    """Copies of tensors on their way to the host, taken when this is made.

    On CUDA the copy is queued behind the work that computes the tensors, and nothing waits for it.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensors and tensors[0].device.type == "cuda":
            self._copies = [
                torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True)
                for t in tensors
            ]
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensors[0].device))
        else:
            self._copies = [t.to("cpu", copy=True) for t in tensors]

    def arrived(self) -> bool:
        """Return whether :meth:`values` would return at once."""
        return self._event is None or self._event.query()

    def values(self) -> list[Tensor]:
        """Return the copies, on the CPU; waits for them."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies
