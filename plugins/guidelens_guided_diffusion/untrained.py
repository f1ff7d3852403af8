"""Networks of the published sizes with random weights, for timings. They draw noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from .flags import UNetFlags
from .unet import TimestepNetwork

NetworkT = TypeVar("NetworkT", bound=TimestepNetwork)


def untrained(network_class: Callable[..., NetworkT], flags: UNetFlags, seed: int = 0) -> NetworkT:
    """Build a network with random weights, including those that training initialises with 0.

    Weights are normal with variance 1 / fan-in. The gains of normalisations have mean 1. Activations therefore neither
    vanish nor overflow, also in half precision.

    :param seed: seed of the weights. PyTorch's global random state does not change.
    """
    with torch.device("meta"):  # skip the default initialisation
        network = network_class(**flags.to_dict())
    network.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
                parameter.normal_(std=fan_in**-0.5, generator=random)
                if isinstance(module, nn.GroupNorm) and name == "weight":
                    parameter.add_(1)
    return network
