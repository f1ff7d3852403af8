"""Costs of a step, counted without the device."""

from __future__ import annotations

import pytest
import torch
from guidelens.bench.cost import count_cost
from guidelens_guided_diffusion import PRESETS, UNet, UNetFlags
from guidelens_guided_diffusion.cost import published_cost, step_cost
from small_unet import SMALL

FLAGS = UNetFlags(**SMALL)


def test_products_are_those_of_the_network_itself() -> None:
    """Counted on the CPU, where attention is two products as well."""
    unet = UNet(**SMALL).eval().requires_grad_(False)
    x = torch.zeros(2, 3, 8, 8)
    forward = count_cost(lambda: unet(x, torch.zeros(2))).flop
    cost = step_cost(FLAGS, dtype=torch.float32, batch=2)
    # The backward pass repeats the products with the weights; attention needs two and a half times its own.
    assert 1.9 * forward < cost.flop < 2.2 * forward


def test_a_full_size_step_is_counted_without_its_memory() -> None:
    cost = step_cost(PRESETS["imagenet256-uncond"].flags)
    assert cost.flop / 1e12 == pytest.approx(4.5, rel=0.01)
    assert cost.bytes_cast < 0.02 * cost.bytes_moved
    published = published_cost(PRESETS["imagenet256-uncond"].flags)
    assert published.flop > 1.45 * cost.flop
    assert published.bytes_moved > 1.8 * cost.bytes_moved
    assert published.operations > 1.2 * cost.operations


def test_half_precision_moves_less() -> None:
    wide, half = (step_cost(FLAGS, dtype=dtype, batch=8) for dtype in (torch.float32, torch.bfloat16))
    assert half.bytes_moved < wide.bytes_moved
    assert half.flop == wide.flop
    assert wide.casts == 0
