"""Devices and precision of the user's networks, and a context that freezes them and restores their mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .errors import UsageError
from .guarding import name_component, name_of, plugin_code

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}
"""The dtypes for network evaluation, by name. float64 is for verification. The sampler state is then float64 too."""


WITHOUT_FLOAT64 = ("mps",)
"""Device types without float64."""


def resolve_device(name: str) -> torch.device:
    """Return the device called ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. ``auto`` chooses the fastest available device.

    :raises UsageError: for another name, or a device that is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"unknown device {name!r}; choose auto, cpu, cuda, cuda:N or mps")
    if name.endswith(":"):
        raise UsageError(f"the device {name!r} lacks its number; write {kind!r} or '{kind}:0'")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"no CUDA device is present (asked for {name!r}); use --device cpu, or auto")
        if number and int(number) >= count:
            raise UsageError(f"no CUDA device {number} (asked for {name!r}); present: 0 to {count - 1}")
        return torch.device("cuda", int(number) if number else torch.cuda.current_device())
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no Apple GPU is present (asked for 'mps'); use --device cpu, or auto")
    return torch.device(kind)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called ``name`` for computing on a device.

    :raises UsageError: for a name not in :data:`DTYPES`, or a dtype that the device does not support.
    """
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; choose {', '.join(DTYPES)}")
    if DTYPES[name] == torch.float64 and device.type in WITHOUT_FLOAT64:
        raise UsageError(f"{device.type} has no float64; use --device cpu, or --dtype float32")
    return DTYPES[name]


def weights_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of weights and sampler state: float64 or float32. Autocast provides lower precisions."""
    return torch.float64 if dtype == torch.float64 else torch.float32


HalfPrecision = Literal["float32", "bfloat16", "float16"]
"""The option ``weights`` of guidance models: the precision in which their weights are kept."""


def kept_dtype(kept: torch.dtype, asked: torch.dtype | None) -> torch.dtype | None:
    """Return the dtype to cast weights to that the user keeps in half precision, when a caller asks for another.

    The engine and judges ask for float32, which is the default. Weights kept in half precision then stay as they are.
    Explicit requests for other dtypes are followed: float64, for verification, holds the same numbers.

    :param kept: what the user asked for when the model was loaded.
    :param asked: the argument of ``to``; None: no change.
    """
    return kept if asked == torch.float32 else asked


@contextmanager
def own_precision(device: torch.device) -> Iterator[torch.dtype | None]:
    """Let a network handle reduced precision itself: yield the requested dtype, and disable autocast inside.

    The engine asks for bfloat16 or float16 by autocast, which casts frozen weights again at every call. A network
    that opens this context in its forward pass casts its weights once instead, and decides what stays float32.

    :param device: the network's device. Autocast is set per kind of device.
    :returns: yields the dtype of the caller's autocast. None if autocast is off; then compute in the weights' dtype.
    """
    kind = device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # autocast does not know the meta device
        yield None
        return
    dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        yield dtype


def place(network: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move a network to a device and dtype, in place where possible, and return it.

    A module's parameters and buffers are cast, except float64 buffers. These are tables that need full precision, such
    as ``alphas_cumprod``; they stay on the CPU if the device has no float64. Other objects are moved by their method
    ``to(device, dtype)``, if they have one.
    """
    if isinstance(network, nn.Module):
        if device.type in WITHOUT_FLOAT64:
            _cast(network, dtype)
            network._apply(lambda tensor: tensor if tensor.dtype == torch.float64 else tensor.to(device))
        else:
            network.to(device)
            _cast(network, dtype)
        return network
    with plugin_code(name_of(network), "to(device, dtype)"):
        movable = callable(getattr(network, "to", None))
        moved = network.to(device, dtype) if movable else None
    if moved is None:
        return network
    name_component(moved, name_of(network))
    return moved


def _cast(network: nn.Module, dtype: torch.dtype) -> None:
    for tensor in [*network.parameters(), *_castable_buffers(network)]:
        if tensor.is_floating_point() and tensor.dtype != dtype:
            tensor.data = tensor.data.to(dtype)


# Names of the buffers that were not float64 originally, so that a later cast to a lower precision includes them.
_CASTABLE: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


def _castable_buffers(network: nn.Module) -> list[Tensor]:
    """Return the buffers that were not float64 when their module was first placed."""
    found = []
    for part in network.modules():
        buffers = dict(part.named_buffers(recurse=False))
        if part not in _CASTABLE:
            _CASTABLE[part] = frozenset(name for name, b in buffers.items() if b.dtype != torch.float64)
        found += [buffer for name, buffer in buffers.items() if name in _CASTABLE[part]]
    return found


@dataclass
class _FrozenState:
    """The state of a module before it was frozen, and the number of open contexts that freeze it."""

    contexts: int
    training: bool
    trainable: list[nn.Parameter]


# Engines and threads may share modules, so open contexts are counted in one place.
_FROZEN: WeakKeyDictionary[nn.Module, _FrozenState] = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def frozen(*networks: Any) -> Iterator[None]:
    """Put modules into eval mode with frozen parameters. The last open context restores both on exit.

    Freezing saves the memory that autograd would use for the parameters' gradients. A network that is not a
    :class:`torch.nn.Module` is not changed. The engine does not compute gradients for its parameters either.
    """
    modules = [network for network in networks if isinstance(network, nn.Module)]
    with _LOCK:
        parts = [part for module in modules for part in module.modules()]
        for part in parts:
            _freeze(part)
        for module in modules:
            module.eval()
            module.requires_grad_(False)
    try:
        yield
    finally:
        with _LOCK:
            for part in parts:
                _restore(part)


def _freeze(part: nn.Module) -> None:
    state = _FROZEN.get(part)
    if state is None:
        trainable = [parameter for parameter in part.parameters(recurse=False) if parameter.requires_grad]
        state = _FROZEN[part] = _FrozenState(0, part.training, trainable)
    state.contexts += 1


def _restore(part: nn.Module) -> None:
    state = _FROZEN[part]
    state.contexts -= 1
    if state.contexts == 0:
        del _FROZEN[part]
        part.training = state.training
        for parameter in state.trainable:
            parameter.requires_grad_(True)
