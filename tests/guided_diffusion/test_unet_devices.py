"""The networks on other devices, and compiled: the same numbers, and nothing that a host would wait for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from guidelens_guided_diffusion import (
    PRESETS,
    EncoderUNet,
    GuidedDiffusionGenerator,
    NoisyClassifierGuidance,
    UNet,
    ops,
)
from small_unet import SMALL, golden, lively
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal")


class NoWaiting(TorchDispatchMode):
    """Fails on operations whose result the host needs before it can go on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func._schema.name not in WAITING, f"{func._schema.name} waits for the device"
        return func(*args, **(kwargs or {}))


def guidance() -> NoisyClassifierGuidance:
    flags = {**SMALL, "out_channels": 7, "pool": "attention"}
    return NoisyClassifierGuidance(lively(EncoderUNet(**flags)))  # type: ignore[arg-type]  # redraws any module


@pytest.mark.parametrize("fast", [False, True])
def test_nothing_waits(fast: bool, x: Tensor, t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain ways are those of accelerators; the fast ones are held to the same."""
    monkeypatch.setattr(ops, "SMALL", 0)
    if not fast:
        monkeypatch.setattr(ops, "_plain", lambda *_: True)
    generator = GuidedDiffusionGenerator(lively(UNet(**{**SMALL, "num_classes": 5})), label=3)
    model = guidance()
    text = model.encode_text(["1", "6"])
    with NoWaiting():
        for dtype in (torch.float32, torch.bfloat16):
            point = x.clone().requires_grad_()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                out = generator(point, t)
                loss = model.losses(point, text, ["class"], timesteps=t)["class"]
            torch.autograd.grad(out.square().sum() + loss.sum(), point)


def test_shapes_without_memory() -> None:
    with torch.device("meta"):
        unet = UNet(**PRESETS["imagenet256-uncond"].flags.to_dict()).requires_grad_(False)
        assert unet(torch.empty(2, 3, 256, 256), torch.empty(2)).shape == (2, 6, 256, 256)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.fx.GraphModule, torch.fx.GraphModule]]:
    """Forward and backward graphs as they are compiled; the backend that generates code takes minutes."""
    found: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        pair: list[Any] = []

        def keep(compiled: torch.fx.GraphModule, _: list[Tensor]) -> Any:
            pair.append(compiled)
            if len(pair) == 2:
                found.append(tuple(pair))
            return make_boxed_func(compiled.forward)

        return aot_autograd(fw_compiler=keep, bw_compiler=keep)(graph, inputs)

    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: whole(network, backend=backend, fullgraph=True))
    torch._dynamo.reset()
    return found


def test_compiled(x: Tensor, t: Tensor, graphs: list[Any]) -> None:
    """One graph forward and one backward per precision, without a break; names and fingerprint stay."""
    unet = lively(UNet(**SMALL))
    compiled, plain = GuidedDiffusionGenerator(unet, compile=True), GuidedDiffusionGenerator(unet)
    assert compiled.fingerprint == plain.fingerprint
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for count, dtype in enumerate((torch.float32, torch.bfloat16), 1):
        results = []
        for generator in (compiled, compiled, plain):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                results.append(output_and_gradient(generator, x, t))
        for ours, again, theirs in zip(*results, strict=True):
            assert torch.equal(ours, again)
            error = float((ours - theirs).norm() / theirs.norm())
            assert error < (1e-5 if dtype == torch.float32 else 0.05)
        assert len(graphs) == count


def output_and_gradient(generator: GuidedDiffusionGenerator, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    point = x.clone().requires_grad_()
    out = generator(point, t)
    return out.detach(), torch.autograd.grad(out.square().sum(), point)[0]


def test_batches_of_one_size_are_compiled_once(graphs: list[Any]) -> None:
    """A run's batches, and its last and smaller one; a third size finds what that left open."""
    compiled = GuidedDiffusionGenerator(lively(UNet(**SMALL)), compile=True)
    for done, size in ((1, 4), (1, 4), (2, 3), (2, 4), (2, 2)):
        output_and_gradient(compiled, torch.randn(size, 3, 8, 8), torch.arange(size) * 100)
        assert len(graphs) == done
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]


def test_compiled_graphs_cast_no_weight(x: Tensor, t: Tensor, graphs: list[Any]) -> None:
    unet = lively(UNet(**SMALL))
    with torch.autocast("cpu", torch.bfloat16):
        output_and_gradient(GuidedDiffusionGenerator(unet, compile=True), x, t)
    weights = {tuple(p.shape) for p in unet.parameters() if p.ndim > 1}
    for graph in graphs[0]:
        casts = [n for n in graph.graph.nodes if "convert_element_type" in n.name or "_to_copy" in n.name]
        assert casts
        assert not weights & {tuple(node.meta["val"].shape) for node in casts}


def test_compiled_inputs_may_be_inside_a_graph(x: Tensor, t: Tensor, graphs: list[Any]) -> None:
    compiled = GuidedDiffusionGenerator(lively(UNet(**SMALL)), compile=True)
    point = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(compiled(point * 1, t).sum(), point)
    assert grad.abs().sum() > 0


def test_compiled_weights_follow_the_networks_own(x: Tensor, t: Tensor, graphs: list[Any]) -> None:
    unet = lively(UNet(**SMALL))
    compiled, plain = GuidedDiffusionGenerator(unet, compile=True), GuidedDiffusionGenerator(unet)
    with torch.autocast("cpu", torch.bfloat16):
        before = compiled(x, t)
        with torch.no_grad():
            unet.input_blocks[0][0].weight.mul_(2)  # type: ignore[index,union-attr,operator]  # a convolution
        after = compiled(x, t)
        torch.testing.assert_close(after, plain(x, t), rtol=0.05, atol=0.05)
    assert not torch.equal(before, after)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    def test_golden_numbers(self) -> None:
        unet, numbers = golden()
        device = UNet(**unet.flags.to_dict()).eval().requires_grad_(False).cuda()
        device.load_state_dict(unet.state_dict())
        x = numbers["forward/x"].cuda().requires_grad_()
        out = device(x, numbers["forward/t"].cuda())
        torch.testing.assert_close(out.cpu(), numbers["forward/out"], rtol=1e-3, atol=1e-4)
        (grad,) = torch.autograd.grad(out.square().sum(), x)
        expected = numbers["forward/grad_of_sum_of_squares"]
        assert float((grad.cpu() - expected).norm() / expected.norm()) < 1e-3

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, dtype: torch.dtype, x: Tensor, t: Tensor) -> None:
        unet = lively(UNet(**SMALL))
        expected = unet(x, t)
        unet.cuda()
        with torch.autocast("cuda", dtype):
            out = unet(x.cuda(), t.cuda())
        assert float((out.cpu() - expected).norm() / expected.norm()) < 0.05

    def test_nothing_waits(self, x: Tensor, t: Tensor) -> None:
        generator = GuidedDiffusionGenerator(lively(UNet(**{**SMALL, "num_classes": 5})), label=3).cuda()
        model = guidance().cuda()
        text = model.encode_text(["1", "6"])
        point, times = x.cuda().requires_grad_(), t.cuda()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.autocast("cuda", torch.float16):
                loss = model.losses(point, text, ["class"], timesteps=times)["class"]
                out = generator(point, times)
            torch.autograd.grad(out.square().sum() + loss.sum(), point)
        finally:
            torch.cuda.set_sync_debug_mode("default")
