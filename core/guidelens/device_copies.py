"""Copies between host and device that do not wait: pinned uploads, and asynchronous copies to the host."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return ``values`` on the device, without waiting for the copy where that is safe.

    This is safe on CUDA, where pageable memory has been read when the call returns. An Apple GPU may read it later,
    after a temporary tensor has been freed and its memory reused (pytorch/pytorch issue 189690).
    """
    return values.to(device, non_blocking=device.type == "cuda")


def upload(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``values`` on the device. On CUDA they pass through pinned memory, so the copy overlaps computation."""
    values = values.to(dtype)
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return to_device(values, device)


class HostCopy:
    """Asynchronous copies of tensors to the host, started by the constructor.

    On CUDA the copy is queued after the kernels that compute the tensors. The host does not wait.
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
        """Wait until the copies are complete, and return them on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies
