"""The fast ways of frozen weights against the plain ones: the same output and gradient, and less kept for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidelens.bench.cost import count_cost
from guidelens_guided_diffusion import UNet, ops
from guidelens_guided_diffusion.layers import Upsample
from small_unet import golden, lively
from torch import Tensor, nn

HALVES = [torch.bfloat16, torch.float16]


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def output_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    point = x.detach().clone().requires_grad_()
    out = function(point)
    cotangent = randn(*out.shape, seed=9, dtype=out.dtype)
    return out.detach(), torch.autograd.grad(out, point, cotangent)[0]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls something with the plain ways alone, and fails if it then took a fast one."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(ops, "_plain", lambda *_: True)
            for name in ("_FrozenConv", "_FrozenUpsampledConv", "_FrozenNorm"):
                patched.setattr(ops, name, None)
            return function(*args)

    return call


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors take the fast ways too."""
    monkeypatch.setattr(ops, "SMALL", 0)
    monkeypatch.setattr(ops, "_PHASES_PAY", 0)


def group_norm(dtype: torch.dtype) -> nn.GroupNorm:
    layer = nn.GroupNorm(32, 64).to(dtype).requires_grad_(False)
    layer.weight.copy_(1 + 0.3 * randn(64, seed=1))
    layer.bias.copy_(0.3 * randn(64, seed=2))
    return layer


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("silu", [False, True], ids=["bare", "silu"])
@pytest.mark.parametrize("shifted", [False, True], ids=["own", "scale-shift"])
@pytest.mark.parametrize("batch", [1, 3])
def test_norm(
    batch: int, shifted: bool, silu: bool, layout: torch.memory_format, slow: Callable[..., Any]
) -> None:
    """In float64 the two agree to the last digits; means differ between samples and groups."""
    x = (randn(batch, 64, 6, 8) + 3 * randn(batch, 64, 1, 1, seed=3)).contiguous(memory_format=layout)
    scale, shift = (randn(batch, 64, seed=4), randn(batch, 64, seed=5)) if shifted else (None, None)
    layer = group_norm(torch.float64)

    def apply(point: Tensor) -> Tensor:
        return ops.norm(point, layer, scale, shift, silu=silu)

    fast, plain = output_and_gradient(apply, x), slow(output_and_gradient, apply, x)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert one.is_contiguous(memory_format=layout)
    assert "FrozenNorm" in type(apply(x.requires_grad_()).grad_fn).__name__


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("silu", [False, True], ids=["bare", "silu"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_gradient_of_half_precision_is_exact_as_well(
    batch: int, silu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels, given float64."""
    x = randn(batch, 64, 6, 8) + 3 * randn(batch, 64, 1, 1, seed=3)
    scale, shift = randn(batch, 64, seed=4), randn(batch, 64, seed=5)
    layer = group_norm(torch.float64)

    def apply(point: Tensor) -> Tensor:
        return ops.norm(point, layer, scale, shift, silu=silu)

    expected = output_and_gradient(apply, x)
    monkeypatch.setattr(ops, "_own_gradient", ops._half_gradient)
    for one, other in zip(output_and_gradient(apply, x), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shifted", [False, True], ids=["own", "scale-shift"])
def test_norm_in_half_precision_is_no_worse(
    shifted: bool, dtype: torch.dtype, slow: Callable[..., Any]
) -> None:
    """A mean of 10 deviations: statistics or factors in half precision would show."""
    x = (randn(2, 64, 16, 16) + 10).to(dtype)
    scale, shift = (randn(2, 64, seed=4), randn(2, 64, seed=5)) if shifted else (None, None)

    def apply(layer: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
        return lambda point: ops.norm(point, layer, scale, shift, silu=True)

    exact = output_and_gradient(apply(group_norm(torch.float64)), x.double())
    layer = group_norm(torch.float32)
    fast, plain = output_and_gradient(apply(layer), x), slow(output_and_gradient, apply(layer), x)
    for ours, theirs, true in zip(fast, plain, exact, strict=True):
        assert ours.dtype == dtype
        assert error(ours, true) < 1.3 * error(theirs, true)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_norm_of_accelerators_casts_no_activation(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own kernel for half precision, held to the same error; only its weights are rounded beside."""
    x = (randn(2, 64, 16, 16) + 3).to(dtype)
    layer = group_norm(torch.float32)

    def apply(point: Tensor) -> Tensor:
        return ops.norm(point, layer, silu=True)

    exact = output_and_gradient(lambda p: ops.norm(p, group_norm(torch.float64), silu=True), x.double())
    wide = output_and_gradient(apply, x)
    monkeypatch.setattr(ops, "NATIVE_HALF_NORM", ("cpu",))
    cost = count_cost(lambda: apply(x))
    assert cost.casts == 2  # weight and bias, once
    assert count_cost(lambda: apply(x)).casts == 0
    for ours, theirs, true in zip(output_and_gradient(apply, x), wide, exact, strict=True):
        assert ours.dtype == dtype
        assert error(ours, true) < 1.7 * error(theirs, true)


def conv(**options: Any) -> nn.Conv2d:
    layer = nn.Conv2d(5, 7, options.pop("size", 3), **options).double()
    return lively(layer)  # type: ignore[type-var]  # redraws any module


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("upsampled", [False, True])
def test_convolution(upsampled: bool, slow: Callable[..., Any]) -> None:
    layer = conv(padding=1)

    def apply(point: Tensor) -> Tensor:
        return ops.conv(point, layer, upsampled=upsampled)

    x = randn(2, 5, 4, 6)
    fast, plain = output_and_gradient(apply, x), slow(output_and_gradient, apply, x)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert fast[0].shape == ((2, 7, 8, 12) if upsampled else (2, 7, 4, 6))


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("options", [{"size": 1}, {"stride": 2, "padding": 1}], ids=["1x1", "strided"])
def test_other_convolutions(options: dict[str, Any]) -> None:
    layer = conv(**options)
    x = randn(2, 5, 4, 6)
    fast, own = output_and_gradient(lambda p: ops.conv(p, layer), x), output_and_gradient(layer, x)
    for one, other in zip(fast, own, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", [ops.upsample, ops.downsample])
def test_resampling_gradients_are_autograds(
    change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = randn(2, 3, 4, 6)
    fast = output_and_gradient(change, x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for one, other in zip(fast, output_and_gradient(change, x), strict=True):
        torch.testing.assert_close(one, other)


def test_odd_sizes_are_averaged_as_ever() -> None:
    x = randn(1, 2, 5, 6)
    torch.testing.assert_close(ops.downsample(x), nn.AvgPool2d(2)(x))


VARIANTS: dict[str, dict[str, Any]] = {
    "updown": {"resblock_updown": True, "use_scale_shift_norm": True, "num_head_channels": 16},
    "convolved": {"num_heads": 2, "use_new_attention_order": True},
    "averaged": {"conv_resample": False, "use_scale_shift_norm": True},
}


@pytest.fixture(params=VARIANTS)
def network(request: pytest.FixtureRequest) -> UNet:
    return lively(UNet(32, 3, 32, 6, 1, (4,), channel_mult=(1, 2, 3), **VARIANTS[request.param]))


def in_network(network: UNet, dtype: torch.dtype, x: Tensor) -> tuple[Tensor, Tensor]:
    def apply(point: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype in HALVES):
            return network(point, torch.tensor([3, 801]))

    return output_and_gradient(apply, x)


@pytest.mark.usefixtures("every_size")
def test_whole_networks(network: UNet, slow: Callable[..., Any]) -> None:
    """Exact in float64; in float32 as close to that as the plain ways are."""
    x = randn(2, 3, 32, 32)
    exact = slow(in_network, copy.deepcopy(network).double(), torch.float64, x)
    for one, other in zip(in_network(copy.deepcopy(network).double(), torch.float64, x), exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    plain = slow(in_network, network, torch.float32, x.float())
    fast = in_network(network, torch.float32, x.float())
    for ours, theirs, true in zip(fast, plain, exact, strict=True):
        assert error(ours, true) < min(1e-5, 1.5 * error(theirs, true))


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("dtype", HALVES)
def test_whole_networks_in_half_precision(
    network: UNet, dtype: torch.dtype, slow: Callable[..., Any]
) -> None:
    x = randn(2, 3, 32, 32, dtype=torch.float32)
    exact = slow(in_network, network, torch.float32, x)
    plain, fast = slow(in_network, network, dtype, x), in_network(network, dtype, x)
    for ours, theirs, true in zip(fast, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        assert 1e-4 < error(ours, true) < min(0.1, 1.2 * error(theirs, true))


@pytest.mark.usefixtures("every_size")
def test_golden_numbers_the_fast_way() -> None:
    unet, numbers = golden()
    x = numbers["forward/x"].clone().requires_grad_()
    out = unet(x, numbers["forward/t"])
    torch.testing.assert_close(out, numbers["forward/out"], rtol=1e-4, atol=1e-5)
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    assert error(grad, numbers["forward/grad_of_sum_of_squares"]) < 1e-4


@pytest.mark.usefixtures("every_size")
def test_training_and_other_users_of_the_layers_take_the_plain_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FrozenConv", "_FrozenUpsampledConv", "_FrozenNorm"):
        monkeypatch.setattr(ops, name, None)
    unet = lively(UNet(32, 3, 32, 3, 1, (2,), channel_mult=(1, 2), resblock_updown=True))
    unet.train().requires_grad_(True)
    unet(randn(1, 3, 32, 32, dtype=torch.float32), torch.tensor([4])).sum().backward()
    assert all(parameter.grad is not None for parameter in unet.parameters())


def kept_bytes(function: Callable[[], object]) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(kept.values())


def test_less_is_kept_for_the_gradient(slow: Callable[..., Any]) -> None:
    unet = lively(UNet(64, 3, 32, 3, 2, (), channel_mult=(1, 1), resblock_updown=True))
    x = randn(1, 3, 64, 64, dtype=torch.float32).requires_grad_()
    unet(x, torch.tensor([4]))  # lays the weights out
    fast = kept_bytes(lambda: unet(x, torch.tensor([4])))
    assert fast < 0.6 * slow(kept_bytes, lambda: unet(x, torch.tensor([4])))


def test_small_tensors_take_the_plain_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FrozenConv", "_FrozenUpsampledConv", "_FrozenNorm"):
        monkeypatch.setattr(ops, name, None)
    unet = lively(UNet(32, 3, 32, 3, 1, (2,), channel_mult=(1, 2), resblock_updown=True))
    output_and_gradient(lambda x: unet(x, torch.tensor([4, 5])), randn(2, 3, 32, 32, dtype=torch.float32))


def test_weights_are_cast_once(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = lively(UNet(16, 3, 32, 3, 1, (2,), channel_mult=(1, 2)))
    x, t = randn(1, 3, 16, 16, dtype=torch.float32), torch.tensor([4])
    with torch.autocast("cpu", torch.bfloat16):
        first = unet(x, t)
        held = {id(m): ops.held(m, torch.bfloat16)[0] for m in unet.modules() if isinstance(m, nn.Conv2d)}
        second = unet(x, t)
    assert torch.equal(first, second)
    for module in unet.modules():
        if isinstance(module, nn.Conv2d):
            weight, bias = ops.held(module, torch.bfloat16)
            assert weight is held[id(module)]
            assert weight.dtype == torch.bfloat16
            assert bias is not None
            assert bias.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float32}


CHANGES: dict[str, Callable[[nn.Conv2d], object]] = {
    "in place": lambda layer: layer.weight.mul_(2),
    "bias in place": lambda layer: layer.bias.add_(1),  # type: ignore[union-attr]  # it has one
    "copied": lambda layer: layer.load_state_dict({n: v * 2 for n, v in layer.state_dict().items()}),
    "assigned": lambda layer: layer.load_state_dict(
        {n: v * 2 for n, v in layer.state_dict().items()}, assign=True
    ),
    "data": lambda layer: setattr(layer.weight, "data", layer.weight.data * 2),
    "dtype": lambda layer: layer.double(),
}


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("upsampled", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_held_weights_follow_the_layers_own(change: str, upsampled: bool) -> None:
    layer = conv(padding=1).float()
    x = randn(1, 5, 4, 4, dtype=torch.bfloat16)
    before = ops.conv(x, layer, upsampled=upsampled)
    with torch.no_grad():
        CHANGES[change](layer)
    layer.requires_grad_(False)
    fresh = copy.deepcopy(layer)
    fresh.__dict__.pop("_kept_weights")
    after = ops.conv(x, layer, upsampled=upsampled)
    assert torch.equal(after, ops.conv(x, fresh, upsampled=upsampled))
    assert torch.equal(after, before) == (change == "dtype")


def test_names_and_values_stay(network: UNet) -> None:
    """Weights are laid out anew and cast beside the network, which a state dict does not show."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    in_network(network, torch.bfloat16, randn(2, 3, 32, 32, dtype=torch.float32))
    in_network(network, torch.float32, randn(2, 3, 32, 32, dtype=torch.float32))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert any(
        tensor.is_contiguous(memory_format=torch.channels_last)
        for tensor in after.values()
        if tensor.ndim == 4
    )


def test_upsample_layers_convolve() -> None:
    layer = lively(Upsample(4, use_conv=True).double())  # type: ignore[arg-type]  # redraws any module
    x = randn(1, 4, 40, 40)
    assert layer.conv is not None
    expected = layer.conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(layer(x), expected)
