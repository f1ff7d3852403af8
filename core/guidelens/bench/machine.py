"""Describe the machine, and measure its best speed for matrix products and convolutions."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from .timing import Clock

_ROUNDS = 5
_MATRIX = {"cpu": 2048, "cuda": 8192, "mps": 4096}
_BATCH = {"cpu": 1, "cuda": 16, "mps": 4}
_CHANNELS, _PIXELS = 256, 64


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the names and versions that timings depend on, as JSON values."""
    described: dict[str, Any] = {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    return described


def measured_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Return FLOP per second of dense products in ``dtype``: the best of some rounds.

    ``matmul``: square matrices. ``convolution``: 3x3, 256 channels, 64x64 pixels, contiguous;
    ``convolution_channels_last``: the same with channels last. Two operations per multiply-add.
    """
    size = _MATRIX[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    images = torch.randn(_BATCH[device.type], _CHANNELS, _PIXELS, _PIXELS, device=device, dtype=dtype)
    kernel = torch.randn(_CHANNELS, _CHANNELS, 3, 3, device=device, dtype=dtype) / (9 * _CHANNELS) ** 0.5
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, kernel)]
    clock, multiplications = Clock(device), images.numel() * _CHANNELS * 9
    with torch.no_grad():
        return {
            "matmul": 2 * size**3 / _best(clock, lambda: a @ b),
            "convolution": 2 * multiplications / _best(clock, lambda: F.conv2d(images, kernel, padding=1)),
            "convolution_channels_last": 2
            * multiplications
            / _best(clock, lambda: F.conv2d(last[0], last[1], padding=1)),
        }


def _best(clock: Clock, action: Callable[[], object]) -> float:
    action()
    return min(clock.time(action) for _ in range(_ROUNDS))


def _processor() -> str:
    """Return the processor's name if the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
