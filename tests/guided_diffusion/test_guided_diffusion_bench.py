"""What benchmarks need of the plugin: networks with random weights, and other implementations of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.bench import machine
from guidelens.bench.run import bench
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens_guided_diffusion import UNet, UNetFlags
from guidelens_guided_diffusion.generator import GuidedDiffusionGenerator
from guidelens_guided_diffusion.plugin import guided_diffusion
from guidelens_guided_diffusion.reference import ReferenceUNet
from guidelens_guided_diffusion.untrained import untrained
from small_unet import SMALL, golden, lively


@pytest.fixture
def written(tmp_path: Path, flags: dict[str, Any]) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(flags), encoding="utf-8")
    return path


def test_the_reference_computes_the_original_numbers() -> None:
    unet, numbers = golden()
    reference = ReferenceUNet(unet.flags, unet.state_dict())
    x = numbers["forward/x"].clone().requires_grad_()
    out = reference(x, numbers["forward/t"])
    torch.testing.assert_close(out, numbers["forward/out"], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(gradient, numbers["forward/grad_of_sum_of_squares"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock_updown": False},
        {"resblock_updown": False, "conv_resample": False},
        {"use_scale_shift_norm": False, "use_new_attention_order": True},
        {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4, "num_res_blocks": 2},
        {"channel_mult": [2, 1, 3], "attention_resolutions": [1, 4], "out_channels": 3},
    ],
    ids=lambda changes: "-".join(changes) or "small",
)
def test_the_reference_knows_every_variant(changes: dict[str, Any], x: torch.Tensor, t: torch.Tensor) -> None:
    unet = lively(UNet(**{**SMALL, **changes}))
    expected = unet(x, t)
    with torch.no_grad():
        actual = ReferenceUNet(unet.flags, unet.state_dict())(x, t)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_reference_shares_contiguous_weights() -> None:
    unet = lively(UNet(**SMALL))
    reference = ReferenceUNet(unet.flags, unet.state_dict())
    bias = unet.time_embed[0].bias
    assert reference._weights["time_embed.0.bias"].data_ptr() == bias.data_ptr()
    assert all(weight.requires_grad for weight in reference._weights.values())


def test_an_untrained_network_is_alive_and_the_same_every_time(x: torch.Tensor, t: torch.Tensor) -> None:
    state = torch.random.get_rng_state()
    unet, again, other = (untrained(UNet, UNetFlags(**SMALL), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        out = unet(x, t)
        assert torch.equal(out, again(x, t))
        assert not torch.equal(out, other(x, t))
    assert 0.1 < out.std() < 10
    assert not torch.allclose(out[0], out[1], atol=0.1)


def test_untrained_is_an_option(written: Path) -> None:
    spec = f"guided-diffusion:untrained=true,flags={written},prediction=v,num_timesteps=50"
    generator = PluginManager.load().build("generator", spec)
    assert isinstance(generator, GuidedDiffusionGenerator)
    assert (generator.prediction, len(generator.alphas_cumprod)) == ("v", 50)
    assert generator.image_shape == (3, 8, 8)
    assert generator.fingerprint == PluginManager.load().build("generator", spec).fingerprint


def test_untrained_or_a_checkpoint(saved: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint or untrained"):
        guided_diffusion(checkpoint=saved, untrained=True)


@pytest.mark.parametrize("name", ["reference", "diffusers"])
def test_alternatives_compute_the_same(name: str, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    generator = guided_diffusion(untrained=True, flags=written)
    report = bench(generator, repeats=1, device="cpu", against=[name])
    (batch,) = report.batches
    assert 0 < batch.against[name].difference < 1e-4
    assert report.flop is not None


def test_faster_ways_are_alternatives(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: whole(network, backend="aot_eager"))
    names = ["compiled", "graphs", "compiled-graphs"]
    report = bench(guided_diffusion(untrained=True, flags=written), repeats=1, device="cpu", against=names)
    against = report.batches[0].against
    assert against["graphs"].difference == 0
    assert max(against[name].difference for name in names) < 1e-4
    # The first step compiles.
    assert against["compiled"].first > 2 * against["compiled"].step.median


def test_what_diffusers_cannot_express_is_told(flags: dict[str, Any]) -> None:
    unet = lively(UNet(**{**flags, "channel_mult": [2, 2]}))
    with pytest.raises(GuidelensError, match="channel_mult must begin with 1"):
        GuidedDiffusionGenerator(unet).alternatives()["diffusers"].build()


def test_diffusers_that_is_not_installed_is_told(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidelens_guided_diffusion import generator

    monkeypatch.setattr(generator, "find_spec", lambda _: None)
    with pytest.raises(GuidelensError, match="guidelens install diffusers"):
        GuidedDiffusionGenerator(lively(UNet(**flags))).alternatives()["diffusers"].build()
