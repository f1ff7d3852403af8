"""A step of the engine on an accelerator that is not there: shapes and devices are followed, nothing is computed.

PyTorch's fake tensors refuse to mix devices, as real ones do, and to read a value off a device. Copies to it are
watched here. The backward passes are left out: they need the device's own driver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from guidelens import engine as engine_module
from guidelens.engine import Engine, Sample
from guidelens.guidance import denoiser
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class Watched(TorchDispatchMode):
    """Notes how tensors get to the device; answers what the host reads of its own tensors by ``host_number``."""

    def __init__(self, device: torch.device, host_number: int) -> None:
        super().__init__()
        self.device, self.host_number = device, host_number
        self.copies: list[bool] = []
        """``non_blocking`` of every copy from the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        if name == "aten::_local_scalar_dense" and args[0].device.type == "cpu":
            return self.host_number
        out = func(*args, **kwargs)
        if name == "aten::_to_copy" and args[0].device.type == "cpu" and out.device.type == self.device.type:
            self.copies.append(bool(kwargs.get("non_blocking")))
        return out


def fake_steps(
    monkeypatch: Any, engine: Engine, samples: Sequence[Sample], networks: Sequence[nn.Module]
) -> tuple[Any, list[bool]]:
    """Return a step in the middle as it would be on a CUDA device, and how its copies from the host went.

    :param engine: made for the CPU; it cannot be used any more.
    :param networks: all modules that it evaluates.
    """
    device = torch.device("cuda")
    plan, text = engine._plan(samples), engine._encode(samples)
    plan.groups(0)  # reads the plan, on the host
    longest = 0 if text is None or "lengths" not in text.tensors else int(text.tensors["lengths"].max())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(denoiser, "vjp", lambda output, point, *_, **__: torch.empty_like(point))
    with FakeTensorMode(allow_non_fake_inputs=True), engine_module._no_grad():
        for network in networks:
            _place(network, device)
        if text is not None:
            # What a model keeps on the host for itself stays there.
            tensors = {
                name: tensor if name == "lengths" else _twin(tensor, device)
                for name, tensor in text.tensors.items()
            }
            text = dataclasses.replace(text, tensors=tensors)
        engine.device = device
        batch = engine._begin(samples, plan, text, None)
        with Watched(device, longest) as watched:
            engine._step(batch, 3)
            watched.copies.clear()  # what is done once for all steps
            step = engine._step(batch, 4)
    return step, watched.copies


def _place(network: nn.Module, device: torch.device) -> None:
    twins: dict[int, torch.Tensor] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in twins:
                    twin = _twin(tensor, device)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    twins[id(tensor)] = nn.Parameter(twin, requires_grad=False) if is_parameter else twin
                tensors[name] = twins[id(tensor)]


def _twin(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
