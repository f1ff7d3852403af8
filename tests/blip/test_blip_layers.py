"""The network's parts: what the fused kernel means, weights cast once under autocast, and which heads there are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from guidelens.errors import UsageError
from guidelens.networks import frozen
from guidelens_blip import BlipGuidance, build_blip
from guidelens_blip.layers import Conv2d, Linear, attend
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

OBJECTIVES = ("itc", "itm", "cap")


@pytest.mark.parametrize("biased", [True, False])
def test_attention_is_what_the_fused_kernel_computes(biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 6, generator=generator) for length in (4, 5, 5))
    bias = torch.tensor([0.0, 0.0, -10_000.0, 0.0, -1.0])[None, None, None] if biased else None
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.4)
    assert_close(attend(q, k, v, scale=0.4, bias=bias), expected)
    assert_close(attend(q, k, v, divisor=2.5, bias=bias), expected)


def test_losses_and_gradients_under_the_fused_kernel(
    blip: BlipGuidance, images, prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = blip.encode_text(prompts)
    results = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr("guidelens_blip.layers.FUSED_ON", devices)
        point = images.clone().requires_grad_()
        losses = blip.losses(point, text, OBJECTIVES)
        gradients = [torch.autograd.grad(losses[k].sum(), point, retain_graph=True)[0] for k in OBJECTIVES]
        results.append(({name: loss.detach() for name, loss in losses.items()}, gradients))
    assert_close(results[0], results[1], rtol=2e-5, atol=2e-5)


class Casts(TorchDispatchMode):
    """Counts the casts to bfloat16 of tensors of the given shapes."""

    def __init__(self, shapes: set[torch.Size]) -> None:
        super().__init__()
        self.shapes, self.count = shapes, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_to_copy" and out.dtype == torch.bfloat16 and out.shape in self.shapes:
            self.count += 1
        return out


def test_weights_are_cast_once_and_give_autocasts_numbers(blip: BlipGuidance, images, prompts) -> None:
    layers = [m for m in blip.model.modules() if isinstance(m, Linear | Conv2d)]
    text = blip.encode_text(prompts)

    def losses() -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return blip.losses(images, text, OBJECTIVES)

    first = losses()
    with Casts({layer.weight.shape for layer in layers}) as casts:
        assert_close(losses(), first, rtol=0, atol=0)
    assert casts.count == 0
    for layer in layers:  # weights that need gradients are left to autocast itself
        layer.requires_grad_(True)
    assert_close(losses(), first, rtol=0, atol=0)


def test_kept_weights_follow_changes(blip: BlipGuidance) -> None:
    layer, x = blip.model.vision_proj, torch.ones(1, 24)

    def output() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16), frozen(layer):
            return layer(x)

    before = output()
    with torch.no_grad():
        layer.bias.add_(1)
    assert_close(output(), before + 1, rtol=0, atol=0.02)
    layer.bias.data = torch.full((12,), 7.0)
    assert_close(output(), (F.linear(x, layer.weight) + 7).bfloat16(), rtol=0.02, atol=0.05)
    with torch.autocast("cpu", dtype=torch.float16), frozen(layer):
        assert layer(x).dtype == torch.float16
    layer.double()
    with torch.autocast("cpu", dtype=torch.bfloat16), frozen(layer):
        assert layer(x.double()).dtype == torch.float64


# --- which heads a network has -------------------------------------------------------------------------------


def test_heads_are_those_of_the_objectives(config, vocab) -> None:
    whole = set(build_blip(config, vocab).state_dict())
    contrast = {name for name in whole if name.startswith(("vision_proj", "text_proj", "temp"))}
    for objectives, absent in (
        (("itc", "itm"), ("text_decoder",)),
        (("cap",), ("text_encoder", "itm_head", *contrast)),
        (("itm", "cap"), tuple(contrast)),
    ):
        network = build_blip(config, vocab, objectives)
        assert set(network.state_dict()) == {name for name in whole if not name.startswith(absent)}


@pytest.mark.parametrize("objectives", [("cap",), ("itc", "itm"), ("itm",)], ids="-".join)
def test_fewer_heads_give_the_same_losses(model, config, vocab, images, prompts, objectives) -> None:
    part = build_blip(config, vocab, objectives)
    part.load_state_dict({name: model.state_dict()[name] for name in part.state_dict()})
    guidance, whole = BlipGuidance(part, config), BlipGuidance(model, config)
    assert guidance.objectives == set(objectives)
    losses = guidance.losses(images, guidance.encode_text(prompts), objectives)
    assert_close(losses, whole.losses(images, whole.encode_text(prompts), objectives), rtol=0, atol=0)
    absent = next(name for name in ("itc", "cap") if name not in objectives)
    with pytest.raises(UsageError, match=f"no objective '{absent}'; it has {', '.join(sorted(objectives))}"):
        guidance.losses(images, guidance.encode_text(prompts), [absent])


def test_initial_weights(config, vocab) -> None:
    """Every tensor is drawn or set, and none twice as different values."""
    torch.manual_seed(0)
    network = build_blip(replace(config, hidden_size=64, vision_width=48), vocab)
    state = network.state_dict()
    for name, tensor in state.items():
        assert tensor.isfinite().all(), name
        if "LayerNorm" in name or "norm" in name:
            assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("weight"))))
        elif name.startswith(("text_encoder", "text_decoder", "visual_encoder.blocks")):
            spread = 0.02 if name.endswith("weight") else 0.0
            assert tensor.std().item() == pytest.approx(spread, rel=0.1), name
        elif name != "temp":
            assert 0 < tensor.std() < 0.6, name
