"""Tests of the Triton kernels on the CPU. Run by ``test_fused_norm.py`` in a process with ``TRITON_INTERPRET=1``.

Triton must be loaded with that variable: then it runs kernels one program after the other, on ordinary tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from guidelens_guided_diffusion import GuidedDiffusionGenerator, UNet, fused_norm, norm_kernels, ops
from norm_oracle import expected, relative_error
from small_unet import SMALL, lively
from torch import Tensor, nn

OPERATORS = ("partial_sums", "coefficients", "apply", "gradient_coefficients", "gradient")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    library = torch.library.Library("guidelens_guided_diffusion", "IMPL")
    for operator in OPERATORS:
        library.impl(operator, getattr(norm_kernels, operator), "CPU")
    monkeypatch.setattr(fused_norm, "DEVICES", ("cpu",))
    monkeypatch.setattr(fused_norm, "LEAST", 0)
    yield
    library._destroy()
    assert not caplog.messages  # the trial passed


@pytest.mark.parametrize(
    ("shape", "modulated", "silu", "offset", "dtype"),
    [
        ((2, 64, 8, 8), True, True, 0.0, torch.bfloat16),
        ((1, 96, 5, 7), True, False, 0.0, torch.float16),  # three channels in a group; no tile is full
        ((3, 32, 4, 4), False, True, 0.0, torch.float16),  # one channel in a group
        ((1, 64, 33, 32), False, False, 8.0, torch.bfloat16),  # two parts, and a mean that is large
    ],
)
def test_kernels(
    shape: tuple[int, int, int, int],
    modulated: bool,
    silu: bool,
    offset: float,
    dtype: torch.dtype,
) -> None:
    random = torch.Generator().manual_seed(0)
    layer = nn.GroupNorm(32, shape[1]).requires_grad_(False)
    nn.init.normal_(layer.weight, 1, 0.3, generator=random)
    nn.init.normal_(layer.bias, 0, 0.3, generator=random)
    x = (torch.randn(shape, generator=random) + offset).to(dtype, memory_format=torch.channels_last)
    grad = torch.randn(shape, generator=random).to(dtype)
    # Halves of a wider tensor, as in the network: not contiguous.
    halves = torch.randn(shape[0], 2 * shape[1], generator=random).chunk(2, dim=1)
    modulation = (halves[0], halves[1]) if modulated else None
    point = x.clone().requires_grad_()
    assert fused_norm.suits(point, layer, None)
    y = ops.norm(point, layer, *(modulation or (None, None)), silu=silu)
    (dx,) = torch.autograd.grad(y, point, grad)
    reference = x.double().requires_grad_()
    exact = expected(reference, layer, modulation, silu)
    (exact_dx,) = torch.autograd.grad(exact, reference, grad.double())
    assert y.dtype == dx.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    # One rounding of the result each.
    limit = 4e-3 if dtype == torch.bfloat16 else 5e-4
    assert relative_error(y, exact.detach()) < limit
    assert relative_error(dx, exact_dx) < limit


def test_the_whole_network(x: Tensor, t: Tensor) -> None:
    """Every normalisation by the kernels; compared with float32."""
    generator = GuidedDiffusionGenerator(lively(UNet(**SMALL)))
    results = []
    for half in (True, False):
        point = x[:1].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = generator(point, t[:1])
        results.append((out.detach(), torch.autograd.grad(out, point, torch.ones_like(out))[0]))
    for ours, theirs in zip(*results, strict=True):
        assert relative_error(ours, theirs.double()) < 0.05


def test_the_trial_passes() -> None:
    assert fused_norm.usable(torch.device("cpu"))
