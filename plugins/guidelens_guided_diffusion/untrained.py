"""Networks of the published shapes with random weights: they draw noise, at the cost of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from .flags import UNetFlags
from .unet import TimestepNetwork, UNet

NetworkT = TypeVar("NetworkT", bound=TimestepNetwork)


def untrained(network_class: Callable[..., NetworkT], flags: UNetFlags, seed: int = 0) -> NetworkT:
    """Build a network whose every weight is random, those that training starts at zero included.

    Nothing vanishes or explodes on the way through it, in half precision either: weights are normal with the
    variance 1 / fan-in, around 1 for the gains of normalisations.

    :param seed: the same weights for the same seed; PyTorch's own random state is not touched.
    """
    with torch.device("meta"):  # no initialisation that is drawn over
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


def untrained_unet(flags: UNetFlags, seed: int = 0) -> UNet:
    """Build a :class:`UNet` so."""
    return untrained(UNet, flags, seed)
