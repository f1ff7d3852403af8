"""The Triton kernels for normalisation, interpreted on the CPU, against PyTorch in float64; and what they cost."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from guidelens_guided_diffusion import UNetFlags, fused_norm, ops
from guidelens_guided_diffusion.cost import step_cost
from norm_oracle import expected, relative_error
from small_unet import SMALL
from torch import nn

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="no Triton, which PyTorch for CUDA brings along"
)


@needs_triton
def test_kernels_as_triton_interprets_them() -> None:
    """In a process of its own, because Triton reads the variable when it is loaded."""
    file = Path(__file__).with_name("interpreted_norm.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_kernels_that_do_not_work_are_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    if fault == "wrong":
        monkeypatch.setattr(fused_norm, "_trial", lambda device: 0.5)
    fused_norm.usable.cache_clear()
    monkeypatch.setattr(fused_norm, "DEVICES", ("cpu",))
    monkeypatch.setattr(fused_norm, "LEAST", 0)
    layer = nn.GroupNorm(32, 64).requires_grad_(False)
    x = torch.randn(1, 64, 4, 4).to(torch.bfloat16, memory_format=torch.channels_last)
    with caplog.at_level(logging.WARNING):
        results = [ops.norm(x, layer, silu=True) for _ in range(2)]
    fused_norm.usable.cache_clear()
    assert relative_error(results[0], expected(x.double(), layer, None, True)) < 4e-3
    assert len(caplog.messages) == 1
    assert "Triton kernels for normalisation cannot be used" in caplog.messages[0]


def test_they_move_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_norm, "LEAST", 0)
    flags = UNetFlags(**{**SMALL, "image_size": 32})
    ours = step_cost(flags, batch=4)
    monkeypatch.setattr(fused_norm, "DEVICES", ())
    plain = step_cost(flags, batch=4)
    assert "guidelens_guided_diffusion::apply" in ours.bytes_of
    assert ours.flop == plain.flop
    assert ours.bytes_moved < 0.95 * plain.bytes_moved
    assert ours.casts < plain.casts


def test_small_tensors_are_left_to_pytorch() -> None:
    assert not any("guidelens" in name for name in step_cost(UNetFlags(**SMALL)).bytes_of)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("shape", [(1, 256, 128, 128), (3, 192, 96, 96), (2, 1536, 40, 40)])
    def test_kernels(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        random = torch.Generator().manual_seed(0)
        layer = nn.GroupNorm(32, shape[1]).requires_grad_(False).cuda()
        x = torch.randn(shape, generator=random).cuda().to(dtype, memory_format=torch.channels_last)
        scale, shift = torch.randn(shape[0], 2 * shape[1], generator=random).cuda().chunk(2, dim=1)
        assert fused_norm.suits(x, layer, scale)
        point, reference = x.clone().requires_grad_(), x.double().requires_grad_()
        y = ops.norm(point, layer, scale, shift, silu=True)
        exact = expected(reference.cpu(), layer.cpu(), (scale.cpu(), shift.cpu()), True)
        grad = torch.randn(shape, generator=random)
        (dx,) = torch.autograd.grad(y, point, grad.cuda().to(dtype))
        (exact_dx,) = torch.autograd.grad(exact, reference, grad.to(dtype).double())
        limit = 4e-3 if dtype == torch.bfloat16 else 5e-4
        assert relative_error(y.cpu(), exact.detach()) < limit
        assert relative_error(dx.cpu(), exact_dx.cpu()) < limit
