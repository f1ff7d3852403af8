"""guidelens's guided-diffusion UNet and its UNet2DModel compute the same, where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError
from guidelens_diffusers import as_unet2d_model, conversion_problems
from guidelens_guided_diffusion import PRESETS, UNet
from safetensors.torch import load_file, safe_open

GOLDEN = Path(__file__).parent.parent / "golden"

SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2, 2],
}


def alive(unet: UNet) -> UNet:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(std=0.1, generator=random)
    return unet.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock_updown": True},
        {"use_scale_shift_norm": True},
        {"resblock_updown": True, "use_scale_shift_norm": True, "num_head_channels": 16},
        {"num_heads": 4},
        {"num_heads": 4, "use_new_attention_order": True},
        {"num_head_channels": 8, "attention_resolutions": [1, 2, 4], "num_res_blocks": 2},
        {"attention_resolutions": [], "channel_mult": [1, 1, 3], "num_res_blocks": 2},
        {"num_classes": 5, "use_scale_shift_norm": True},
        {"out_channels": 3, "channel_mult": [1], "attention_resolutions": [1]},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_both_compute_the_same(changes: dict[str, Any]) -> None:
    unet = alive(UNet(**{**SMALL, **changes}))
    model = as_unet2d_model(unet.flags.to_dict(), unet.state_dict())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in unet.parameters())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    t, labels = torch.tensor([3, 801]), torch.tensor([0, 4]) if "num_classes" in changes else None
    with torch.no_grad():
        expected = unet(x, t, labels)
        actual = model(x, t, class_labels=labels).sample
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_the_original_code_computed_the_same() -> None:
    path = GOLDEN / "unet_uncond_updown.safetensors"
    numbers = load_file(path)
    with safe_open(path, "pt") as file:
        unet = UNet(**json.loads(file.metadata()["config"]))
    weights = {n.removeprefix("weights/"): v for n, v in numbers.items() if n.startswith("weights/")}
    model = as_unet2d_model(unet.flags.to_dict(), weights)
    with torch.no_grad():
        actual = model(numbers["forward/x"], numbers["forward/t"]).sample
    torch.testing.assert_close(actual, numbers["forward/out"], rtol=1e-4, atol=1e-4)


def test_weights_are_shared() -> None:
    unet = alive(UNet(**SMALL))
    model = as_unet2d_model(unet.flags.to_dict(), unet.state_dict())
    assert model.conv_in.weight.data_ptr() == unet.input_blocks[0][0].weight.data_ptr()


def test_the_published_network_can_be_converted() -> None:
    assert conversion_problems(PRESETS["imagenet256-uncond"].flags.to_dict()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channel_mult": [2, 2]}, "channel_mult must begin with 1"),
        ({"conv_resample": False}, "conv_resample"),
        ({"num_heads": 4, "attention_resolutions": [1, 2]}, "4 attention heads at each of the widths 32, 64"),
        ({"num_heads": 2, "num_heads_upsample": 4}, "num_heads_upsample"),
    ],
)
def test_what_a_unet2d_model_cannot_express_is_named(changes: dict[str, Any], named: str) -> None:
    unet = UNet(**{**SMALL, **changes})
    with pytest.raises(GuidelensError, match=named):
        as_unet2d_model(unet.flags.to_dict(), unet.state_dict())
