"""Restore the names of moving averages that a training program stored without the network's names.

Two kinds are common. ``shadow_params`` is a list of tensors in the order of the network's parameters. The ``LitEma``
of latent diffusion registers buffers whose names are the parameters' without dots. Both get their names from the
network that is stored beside them, and only if all shapes agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_AVERAGES = ("ema", "shadow", "averag", "polyak")
_RAW = ("online",)
"""Labels of the original weights in containers that are named after the average."""
_COUNTERS = ("decay", "num_updates")
"""Buffers of LitEma beside the averages."""
_FEWEST = 2
_DEEPEST = 8
_MOST_ENTRIES = 1_000_000


def is_average(label: str) -> bool:
    """Return whether an entry has a typical name of moving averages: ``ema.ema_model``, but not
    ``ema.online_model``."""
    last = label.lower()
    return any(word in last for word in _AVERAGES) and not any(word in last for word in _RAW)


def unnamed(
    value: Any, at: tuple[str, ...] = (), budget: Iterator[int] | None = None
) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield the lists of real tensors in a checkpoint, outside of optimizers, with the path to each.

    :param budget: limits the visited entries, because a small file can refer to itself without end.
    """
    import torch

    budget = iter(range(_MOST_ENTRIES)) if budget is None else budget
    if len(at) > _DEEPEST or next(budget, None) is None:
        return
    if isinstance(value, list | tuple):
        tensors = [entry for entry in value if isinstance(entry, torch.Tensor)]
        if len(tensors) == len(value) >= _FEWEST and all(t.is_floating_point() for t in tensors):
            yield ".".join(at), tensors
    elif isinstance(value, Mapping) and not {"state", "param_groups"} <= value.keys():
        for name, entry in value.items():
            if isinstance(name, str) and isinstance(entry, list | tuple | Mapping):
                yield from unnamed(entry, (*at, name), budget)


def named_by_order(average: Sequence[Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a network with its parameters replaced by a list in the same order; None if the shapes differ."""
    names = [name for name, tensor in network.items() if tensor.is_floating_point()]
    if [network[name].shape for name in names] != [tensor.shape for tensor in average]:
        return None
    return {**network, **dict(zip(names, average, strict=True))}


def without_dots(
    table: Mapping[str, Tensor], prefix: str, network: Mapping[str, Tensor]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the averages in a table whose names are a network's names without dots, with the name of their module.

    :param table: has entries such as ``model_ema.diffusion_modelstemweight``.
    :param prefix: of the network's names in that table, such as ``model.diffusion_model.``.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in table.items():
        module, _, rest = name.partition(".")
        if is_average(module) and rest and "." not in rest and rest not in _COUNTERS:
            modules.setdefault(module, {})[rest] = tensor
    parts = [part for part in prefix.split(".") if part]
    for module, held in modules.items():
        for start in range(len(parts) + 1):
            outer = "".join(parts[start:])
            flat = {outer + name.replace(".", ""): name for name in network}
            if len(flat) == len(network) and len(held) >= _FEWEST and held.keys() <= flat.keys():
                named = {flat[name]: tensor for name, tensor in held.items()}
                if all(network[name].shape == tensor.shape for name, tensor in named.items()):
                    yield module, {**network, **named}
                    break


def advice(label: str) -> str:
    """Return how to convert an average whose names cannot be restored."""
    return (
        f"{label} is a moving average without names, a list of tensors: copy it into the network with its training "
        "program (ema.copy_to(model.parameters())) and save model.state_dict()"
    )
