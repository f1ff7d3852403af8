"""Predictions and gradients by CUDA graphs are those of the network itself. Without a GPU, the graphs are faked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from faked_graphs import FakedGraph, fake_graphs
from guidelens.engine import Engine, Sample
from guidelens.sampling import Sampling
from guidelens_guided_diffusion import GuidedDiffusionGenerator, UNet, graphs
from small_unet import SMALL, lively
from torch import Tensor


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakedGraph]:
    return fake_graphs(monkeypatch)


def pair(**flags: Any) -> tuple[GuidedDiffusionGenerator, GuidedDiffusionGenerator]:
    """A generator with graphs, and the same network without."""
    unet = lively(UNet(**{**SMALL, **flags}))
    label: Any = 3 if "num_classes" in flags else None
    return (
        GuidedDiffusionGenerator(unet, label=label, graphs=True),
        GuidedDiffusionGenerator(unet, label=label),
    )


def inputs(seed: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 8, 8, generator=random), torch.randint(0, 1000, (batch,), generator=random)


def evaluated(generator: GuidedDiffusionGenerator, seed: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Output, and gradient of a weighted sum."""
    x, t = inputs(seed, batch)
    point = x.requires_grad_()
    out = generator(point, t)
    return out.detach(), torch.autograd.grad(out, point, out.detach().cos())[0]


def expect_equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for mine, their in zip(ours, theirs, strict=True):
        assert torch.equal(mine, their)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flags", [{}, {"num_classes": 5}], ids=["plain", "classes"])
def test_the_same_numbers(made: list[FakedGraph], flags: dict[str, int], dtype: torch.dtype) -> None:
    ours, plain = pair(**flags)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for seed in (1, 2, 3):
            expect_equal(evaluated(ours, seed), evaluated(plain, seed))
    assert [graph.replays for graph in made] == [3, 3]


def test_results_are_not_overwritten(made: list[FakedGraph]) -> None:
    """A batch in two pieces: the results of the first are read after the second."""
    ours, plain = pair()
    first, second = evaluated(ours, 1), evaluated(ours, 2)
    expect_equal(first, evaluated(plain, 1))
    expect_equal(second, evaluated(plain, 2))


def test_gradients_in_any_order(made: list[FakedGraph]) -> None:
    """Two predictions before the first gradient, as in engines that share a network in threads."""
    ours, plain = pair()
    points = [inputs(seed)[0].requires_grad_() for seed in (1, 2)]
    outs = [ours(point, inputs(seed)[1]) for point, seed in zip(points, (1, 2), strict=True)]
    for k in (0, 1):
        (gradient,) = torch.autograd.grad(outs[k], points[k], outs[k].detach().cos())
        assert torch.equal(gradient, evaluated(plain, k + 1)[1])


def test_a_gradient_asked_for_twice(made: list[FakedGraph]) -> None:
    """As for another loss scale in float16."""
    ours, plain = pair()
    x, t = inputs(1)
    out = ours(x.requires_grad_(), t)
    twice = [
        torch.autograd.grad(out, x, scale * out.detach().cos(), retain_graph=True)[0] for scale in (2.0, 1.0)
    ]
    assert twice[0].isfinite().all()
    assert torch.equal(twice[1], evaluated(plain, 1)[1])


def test_without_gradients(made: list[FakedGraph]) -> None:
    ours, plain = pair()
    with torch.no_grad():
        for seed in (1, 2):
            assert torch.equal(ours(*inputs(seed)), plain(*inputs(seed)))
    assert [len(graph.calls) > 0 for graph in made] == [True, False]  # no backward graph


def test_it_follows_the_weights(made: list[FakedGraph]) -> None:
    ours, plain = pair()
    evaluated(ours, 1)
    with torch.no_grad():
        for parameter in ours.unet.parameters():
            parameter.mul_(1.1)
    expect_equal(evaluated(ours, 1), evaluated(plain, 1))


def test_a_run_and_its_last_batch(made: list[FakedGraph], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "KEPT", 2)
    ours, plain = pair()
    for batch in (2, 2, 1, 2, 1):
        expect_equal(evaluated(ours, 1, batch), evaluated(plain, 1, batch))
    assert len(made) == 4
    evaluated(ours, 1, 3)
    assert len(ours._fast._recordings) == graphs.KEPT  # type: ignore[union-attr]  # graphs=True


@pytest.mark.parametrize("why", ["large", "checkpointing"])
def test_where_graphs_do_not_fit(made: list[FakedGraph], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = pair()
    if why == "large":
        monkeypatch.setattr(graphs, "LARGEST", 64)
    else:
        ours.checkpointing(True)
    expect_equal(evaluated(ours, 1), evaluated(plain, 1))
    assert not made


def test_a_failed_capture_is_one_warning(
    made: list[FakedGraph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours, plain = pair()
    whole, calls = ours.unet.predict, []

    def predict(*arguments: Any) -> Tensor:
        calls.append(arguments)
        if len(calls) == 4:  # the capture follows three passes
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
        return whole(*arguments)

    monkeypatch.setattr(ours.unet, "predict", predict)
    with caplog.at_level(logging.WARNING):
        results = evaluated(ours, 1), evaluated(ours, 2)
    monkeypatch.undo()
    expect_equal(results[0], evaluated(plain, 1))
    expect_equal(results[1], evaluated(plain, 2))
    told = "recording CUDA graphs failed (operation not permitted when stream is capturing); continuing without them"
    assert caplog.messages == [told]


class Brightness:
    """A guidance model: pictures of a given brightness."""

    objectives = frozenset({"light"})
    fingerprint = "brightness"

    def encode_text(self, prompts: Any) -> Any:
        from guidelens.contracts import TextBatch

        return TextBatch(tuple(prompts))

    def losses(self, images: Tensor, text: Any, objectives: Any) -> dict[str, Tensor]:
        return {"light": (images - 0.5).square().mean(dim=(1, 2, 3))}


class Always:
    def weights(self, progress: float) -> dict[str, float]:
        return {"light": 1.0}


def pictures(generator: Any, device: str = "cpu", prepare: Callable[[Engine], object] = id) -> Tensor:
    engine = Engine(generator, Brightness(), Sampling(steps=4, scale=50.0), device=device, batch_size=4)
    prepare(engine)
    samples = [Sample("a", Always(), seed) for seed in range(5)] + [Sample("", None, 7)]
    return torch.stack([result.image for result in engine.run(samples)])


def test_whole_runs(made: list[FakedGraph]) -> None:
    """Guided and unguided samples, a smaller last batch, and a batch in pieces."""
    ours, plain = pair()
    assert torch.equal(pictures(ours), pictures(plain))
    assert sum(graph.replays for graph in made) > 10

    def in_pieces(engine: Engine) -> None:
        engine._micro.limit = 2

    assert torch.equal(pictures(ours, prepare=in_pieces), pictures(plain, prepare=in_pieces))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_the_same_numbers(self, dtype: torch.dtype) -> None:
        unet = lively(UNet(**SMALL)).cuda()
        ours, plain = GuidedDiffusionGenerator(unet, graphs=True), GuidedDiffusionGenerator(unet)
        for seed in (1, 2, 1):
            results = []
            for generator in (ours, plain):
                x, t = inputs(seed)
                point = x.cuda().requires_grad_()
                with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
                    out = generator(point, t.cuda())
                results.append((out.detach(), torch.autograd.grad(out, point, out.detach().cos())[0]))
            for mine, their in zip(*results, strict=True):
                torch.testing.assert_close(mine, their, rtol=1e-5, atol=1e-5)
        assert not ours._fast._failed  # type: ignore[union-attr]  # graphs=True

    def test_a_replay_waits_for_nothing(self) -> None:
        ours = GuidedDiffusionGenerator(lively(UNet(**SMALL)).cuda(), graphs=True)
        x, t = (tensor.cuda() for tensor in inputs(1))
        point = x.requires_grad_()
        torch.autograd.grad(ours(point, t).sum(), point)  # records
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            torch.autograd.grad(ours(point, t).sum(), point)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_failed_capture_leaves_the_device_usable(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The network reads a value from the device, which a capture does not allow."""
        ours = GuidedDiffusionGenerator(lively(UNet(**SMALL)).cuda(), graphs=True)
        whole = ours.unet.predict

        def predict(x: Tensor, *rest: Any) -> Tensor:
            x.sum().item()
            return whole(x, *rest)

        monkeypatch.setattr(ours.unet, "predict", predict)
        stream = torch.cuda.current_stream()
        x, t = (tensor.cuda() for tensor in inputs(1))
        with caplog.at_level(logging.WARNING):
            first, second = ours(x, t), ours(x, t)
        assert torch.cuda.current_stream() == stream
        torch.testing.assert_close(first, second)
        assert len(caplog.messages) == 1
        assert "recording CUDA graphs failed" in caplog.messages[0]

    def test_whole_runs(self) -> None:
        unet = lively(UNet(**SMALL))
        ours, plain = GuidedDiffusionGenerator(unet, graphs=True), GuidedDiffusionGenerator(unet)
        torch.testing.assert_close(pictures(ours, "cuda"), pictures(plain, "cuda"), rtol=1e-3, atol=1e-3)
        assert not ours._fast._failed  # type: ignore[union-attr]  # graphs=True
