"""Count the cost of a guided step on an accelerator. The meta device needs no GPU, memory or weights."""

from __future__ import annotations

import torch
from guidelens.bench.cost import Cost, count_cost
from torch import Tensor

from .flags import UNetFlags
from .reference import ReferenceUNet
from .unet import UNet


def step_cost(flags: UNetFlags, *, dtype: torch.dtype = torch.bfloat16, batch: int = 1) -> Cost:
    """Return the cost of one forward pass and one vector-Jacobian product to x_t.

    Counts the operations that CUDA runs once weights are converted. Attention counts as one fused kernel.

    :param flags: flags of an unconditional network.
    :param dtype: the precision of the activations.
    """
    unet = _on_meta(flags)
    x, timesteps = _inputs(flags, batch)
    channels = flags.in_channels

    def step() -> None:
        predicted = unet.predict(x, timesteps, None, dtype)[:, :channels]
        torch.autograd.grad(predicted, x, torch.empty_like(predicted))

    step()  # converts and caches the weights
    return count_cost(step)


def published_cost(flags: UNetFlags, *, batch: int = 1) -> Cost:
    """Return the cost of a step of the published code: two evaluations and one gradient, in float32."""
    network = ReferenceUNet(flags, _on_meta(flags).state_dict())
    x, timesteps = _inputs(flags, batch)

    def step() -> None:
        with torch.no_grad():
            network(x, timesteps)
        predicted = network(x, timesteps)[:, : flags.in_channels]
        torch.autograd.grad(predicted, x, torch.empty_like(predicted))

    return count_cost(step)


def _on_meta(flags: UNetFlags) -> UNet:
    with torch.device("meta"):
        return UNet(**flags.to_dict()).eval().requires_grad_(False)


def _inputs(flags: UNetFlags, batch: int) -> tuple[Tensor, Tensor]:
    shape = (batch, flags.in_channels, flags.image_size, flags.image_size)
    return torch.empty(shape, device="meta", requires_grad=True), torch.empty(batch, device="meta")
