"""The UNet's parts against independent formulas, and its flags against the names that they must produce."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from guidelens.errors import UsageError
from guidelens_guided_diffusion import UNet, UNetFlags
from guidelens_guided_diffusion.layers import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResBlock,
    Upsample,
    timestep_embedding,
)
from small_unet import lively
from torch import Tensor, nn


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module.double().requires_grad_(False)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def naive_norm(x: Tensor, norm: GroupNorm32) -> Tensor:
    """Group normalisation, written out with means."""
    groups = x.reshape(len(x), 32, -1)
    centred = groups - groups.mean(2, keepdim=True)
    unit = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return unit.view_as(x) * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize("new_order", [False, True], ids=["by-head", "qkv-first"])
def test_attention_is_that_of_a_naive_loop(new_order: bool) -> None:
    channels, heads, width = 32, 4, 8
    block = randomised(AttentionBlock(channels, heads, new_order))
    x = normal(2, channels, 3, 5)
    qkv = block.qkv.weight[:, :, 0] @ naive_norm(x, block.norm).flatten(2) + block.qkv.bias[:, None]
    attended = torch.empty(2, channels, 15, dtype=x.dtype)
    for head in range(heads):
        if new_order:
            starts = [part * channels + head * width for part in range(3)]
        else:
            starts = [(3 * head + part) * width for part in range(3)]
        q, k, v = (qkv[:, start : start + width] for start in starts)
        for i in range(15):
            scores = (q[:, :, i, None] * k).sum(1) / math.sqrt(width)
            attended[:, head * width : (head + 1) * width, i] = (scores.softmax(1)[:, None] * v).sum(2)
    expected = x + (block.proj_out.weight[:, :, 0] @ attended + block.proj_out.bias[:, None]).view_as(x)
    torch.testing.assert_close(block(x), expected)


def test_attention_in_bfloat16_is_that_in_float64() -> None:
    block = randomised(AttentionBlock(32, 2, False))
    x = normal(2, 32, 4, 4)
    expected = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block.float()(x.float())
    assert float((rounded.double() - expected).norm() / (expected - x).norm()) < 0.02


@pytest.mark.parametrize("scale_shift", [False, True], ids=["added", "scale-shift"])
@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_residual_block_is_its_formula(scale_shift: bool, resample: str | None) -> None:
    change = {None: None, "up": Upsample(32, use_conv=False), "down": Downsample(32, use_conv=False)}[
        resample
    ]
    block = randomised(ResBlock(32, 16, 0.0, 64, scale_shift, change))
    x, emb = normal(2, 32, 4, 4), normal(2, 16)
    sized = {
        None: lambda h: h,
        "up": lambda h: h.repeat_interleave(2, 2).repeat_interleave(2, 3),
        "down": lambda h: h.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)),
    }[resample]
    silu = lambda h: h * torch.sigmoid(h)  # noqa: E731  # one formula
    first, last = block.in_layers[2], block.out_layers[3]
    h = F.conv2d(sized(silu(naive_norm(x, block.in_layers[0]))), first.weight, first.bias, padding=1)
    linear = block.emb_layers[1]
    condition = (silu(emb) @ linear.weight.T + linear.bias)[:, :, None, None]
    if scale_shift:
        h = naive_norm(h, block.out_layers[0]) * (1 + condition[:, :64]) + condition[:, 64:]
    else:
        h = naive_norm(h + condition, block.out_layers[0])
    h = F.conv2d(silu(h), last.weight, last.bias, padding=1)
    skip = F.conv2d(sized(x), block.skip_connection.weight, block.skip_connection.bias)
    torch.testing.assert_close(block(x, emb), skip + h)


def test_timestep_embedding_is_its_formula() -> None:
    embedded = timestep_embedding(torch.tensor([0, 7, 999]), 9)
    assert embedded.dtype == torch.float32
    for row, time in zip(embedded, (0, 7, 999), strict=True):
        angles = [time * 10_000 ** (-k / 4) for k in range(4)]
        expected = [*map(math.cos, angles), *map(math.sin, angles), 0.0]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=0, atol=2e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_of_half_precision_has_float32_statistics(layout: torch.memory_format) -> None:
    """A mean of 100 with a deviation of 1: statistics in bfloat16 (steps of 0.5 there) would be far off."""
    norm = GroupNorm32(64)
    x = (normal(2, 64, 6, 6).float() + 100).bfloat16().to(memory_format=layout)
    out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), naive_norm(x.double(), norm.double()), rtol=1e-2, atol=1e-2)


def names_of(**changes: Any) -> dict[str, Tensor]:
    flags = {
        "image_size": 16,
        "in_channels": 3,
        "model_channels": 32,
        "out_channels": 3,
        "num_res_blocks": 2,
        "attention_resolutions": (2,),
        "channel_mult": (1, 2, 2),
        **changes,
    }
    with torch.device("meta"):
        return UNet(**flags).state_dict()


def blocks_with(names: dict[str, Tensor], pattern: str) -> list[str]:
    found = (re.match(pattern, name) for name in names)
    return sorted({match[1] for match in found if match}, key=lambda name: (name[0], int(name.split(".")[1])))


def test_blocks_and_attention_are_where_the_flags_say() -> None:
    """Three levels of two blocks: conv, 2 + down, 2 + down, 2; and three blocks a level on the way up."""
    names = names_of()
    assert len(blocks_with(names, r"(input_blocks\.\d+)\.")) == 1 + 2 + 1 + 2 + 1 + 2
    assert len(blocks_with(names, r"(output_blocks\.\d+)\.")) == 3 * 3
    attended = blocks_with(names, r"((?:in|out)put_blocks\.\d+)\.1\.qkv")
    assert attended == [*(f"input_blocks.{i}" for i in (4, 5)), *(f"output_blocks.{i}" for i in (3, 4, 5))]
    assert "middle_block.1.qkv.weight" in names
    # What the first block of each level on the way up takes: its own input and the skip of the level.
    inputs = [names[f"output_blocks.{i}.0.in_layers.2.weight"].shape[1] for i in range(9)]
    assert inputs == [64 + 64, 64 + 64, 64 + 64, 64 + 64, 64 + 64, 64 + 32, 64 + 32, 32 + 32, 32 + 32]


def test_resampling_variants_by_name() -> None:
    convolved, averaged, residual = (
        names_of(),
        names_of(conv_resample=False),
        names_of(resblock_updown=True),
    )
    assert blocks_with(convolved, r"(input_blocks\.\d+)\.0\.op\.") == ["input_blocks.3", "input_blocks.6"]
    assert {"output_blocks.2.1.conv.weight", "output_blocks.5.2.conv.weight"} <= set(convolved)
    assert not [name for name in averaged if ".op." in name or ".conv." in name]
    assert not [name for name in residual if ".op." in name or ".conv." in name]
    assert {"input_blocks.3.0.in_layers.2.weight", "output_blocks.5.2.in_layers.2.weight"} <= set(residual)
    assert residual["input_blocks.3.0.in_layers.2.weight"].shape == (32, 32, 3, 3)


@pytest.mark.parametrize("updown", [False, True])
@pytest.mark.parametrize("conv_resample", [False, True])
def test_every_variant_runs_and_sees_all_of_its_input(updown: bool, conv_resample: bool) -> None:
    flags = UNetFlags(8, 3, 32, 3, 1, (2,), channel_mult=(1, 2), num_heads=2, num_heads_upsample=4)
    unet = UNet(**{**flags.to_dict(), "resblock_updown": updown, "conv_resample": conv_resample})
    x = normal(1, 3, 8, 8).float().requires_grad_()
    (grad,) = torch.autograd.grad(lively(unet)(x, torch.tensor([5])).square().sum(), x)
    assert bool((grad != 0).all())
    heads = [module.num_heads for module in unet.modules() if isinstance(module, AttentionBlock)]
    assert heads == [2, 2, 4, 4]  # down, middle, up, up


def test_head_width_fixes_the_number_of_heads(unet: UNet) -> None:
    assert [m.num_heads for m in unet.modules() if isinstance(m, AttentionBlock)] == [4, 4, 4, 4]


def test_recomputing_stages_changes_no_gradient(unet: UNet, flags: dict, x: Tensor, t: Tensor) -> None:
    recomputing = UNet(**{**flags, "use_checkpoint": True}).eval().requires_grad_(False)
    recomputing.load_state_dict(unet.state_dict())
    forwards = []
    recomputing.middle_block.register_forward_pre_hook(lambda *_: forwards.append(1))
    grads = []
    for network in (unet, recomputing):
        point = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(network(point, t).square().sum(), point)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)
    assert len(forwards) == 2  # it did recompute


def test_training_reaches_every_parameter(flags: dict, x: Tensor, t: Tensor) -> None:
    unet = lively(UNet(**flags)).train().requires_grad_(True)
    unet(x, t).square().sum().backward()
    idle = [n for n, p in unet.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not idle


def test_a_new_network_predicts_zero(flags: dict, x: Tensor, t: Tensor) -> None:
    """The last convolution starts at zero, as in the original."""
    assert not bool(UNet(**flags)(x, t).any())


def test_samples_do_not_mix(unet: UNet, x: Tensor, t: Tensor) -> None:
    together = unet(x, t)
    for i in range(2):
        torch.testing.assert_close(unet(x[i : i + 1], t[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_autocast_is_close_to_float32(unet: UNet, x: Tensor, t: Tensor) -> None:
    results = []
    for enabled in (False, True):
        point = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = unet(point, t).float()
        results.append((out.detach(), torch.autograd.grad(out.square().sum(), point)[0]))
    for exact, rounded in zip(*results, strict=True):
        error = float((rounded - exact).norm() / exact.norm())
        assert 0 < error < 0.05


def test_labels_go_with_conditional_networks_only(unet: UNet, flags: dict, x: Tensor, t: Tensor) -> None:
    labels = torch.tensor([0, 4])
    with pytest.raises(ValueError, match="labels"):
        unet(x, t, labels)
    conditional = lively(UNet(**{**flags, "num_classes": 5}))
    with pytest.raises(ValueError, match="labels"):
        conditional(x, t)
    assert not torch.equal(conditional(x, t, labels), conditional(x, t, labels.flip(0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 0}, "model_channels must be a positive integer, not 0"),
        ({"model_channels": "256"}, "model_channels must be a positive integer, not '256'"),
        ({"model_channels": 40}, "is 40 channels"),
        ({"channel_mult": ()}, "channel_mult must be one number or more"),
        ({"channel_mult": "1,2"}, "channel_mult must be a list of positive numbers"),
        ({"attention_resolutions": [2.5]}, "attention_resolutions must be a list of positive integers"),
        ({"image_size": 9}, "image_size must be a multiple of 2"),
        ({"num_head_channels": 48}, "48 channels per head"),
        ({"num_head_channels": -1, "num_heads": 3}, "3 heads"),
        ({"num_head_channels": -1, "num_heads_upsample": 3}, "3 heads"),
        ({"num_heads": -1}, "num_heads must be a positive integer"),
        ({"dropout": 1.0}, "dropout must be a number in"),
        ({"resblock_updown": 1}, "resblock_updown must be true or false, not 1"),
        ({"num_classes": 0}, "num_classes must be a positive integer"),
    ],
)
def test_flags_that_fit_no_network(flags: dict, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UNet(**{**flags, **changes})


def test_flags_survive_json(flags: dict) -> None:
    built = UNetFlags.from_mapping(flags)
    assert UNetFlags.from_mapping(built.to_dict()) == built
    assert built.widths == (32, 64)
