"""Nothing inside a step makes the host wait for the device, and nothing outlives a closed stream.

There is no accelerator here, so the operations that would wait for one are forbidden while a step runs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from guidelens.device_copies import HostCopy, upload
from guidelens.engine import Sample
from guidelens.sampling import Sampling
from torch.utils._python_dispatch import TorchDispatchMode
from toys import EVERYTHING, SHAPE, Constant, Shift, TinyNet, TinyVision, make_engine

WAITING = (
    "aten::_local_scalar_dense",  # .item(), bool(), int(), float()
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::_unique2",
)

SAMPLES = [
    Sample("a red circle", Constant(dot=1.0), 0),
    Sample("two squares", Shift("dot", "square"), 1),
    Sample("a cross", None, 3),
    Sample("a red circle", Constant(dot=0.5, square=0.5), 2, scale=10.0),
]


class NoWaiting(TorchDispatchMode):
    """Fails on operations whose result the host needs before it can go on."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        assert name not in WAITING, f"{name} waits for the device"
        if name in ("aten::index", "aten::index_put", "aten::index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, f"{name} by a mask waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        Sampling(),
        EVERYTHING,
        Sampling(through="x0", into="x0"),
        Sampling(normalize="loss"),
    ],
    ids=["plain", "everything", "x0", "loss"],
)
def test_a_step_waits_for_nothing(monkeypatch, options, dtype, sampler):
    engine = make_engine(
        TinyNet(), TinyVision(), replace(options, steps=25, dtype=dtype), sampler=sampler, device="cpu"
    )
    stream = engine.stream(SAMPLES)
    next(stream)  # makes the plan, the text, the noise
    with NoWaiting(), monkeypatch.context() as patch:
        patch.setattr(HostCopy, "arrived", lambda self: False)  # as on a device that is still busy
        for method in ("tolist", "numpy", "__array__"):
            patch.setattr(torch.Tensor, method, None)
        for _ in range(23):
            next(stream)
    assert next(stream).index == 24  # where what was read is judged


def test_the_guard_sees_what_it_should():
    x = torch.ones(3)
    for wait in (
        lambda: x.sum().item(),
        lambda: bool(x.all()),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: torch.equal(x, x),
    ):
        with NoWaiting(), pytest.raises(AssertionError, match="waits for the device"):
            wait()


def test_readings_are_what_the_tensors_were():
    x = torch.arange(3)
    reading = HostCopy(x, x > 1)
    x += 10
    assert reading.arrived()
    values, large = reading.values()
    assert values.tolist() == [0, 1, 2]
    assert large.tolist() == [False, False, True]


def test_uploads_keep_values():
    placed = upload(torch.arange(3, dtype=torch.float64), torch.device("cpu"), torch.float32)
    assert placed.dtype == torch.float32
    assert placed.tolist() == [0, 1, 2]


def test_a_stream_closed_in_the_middle_leaves_the_engine_ready():
    engine = make_engine(TinyNet(), TinyVision(), replace(EVERYTHING, steps=8, dtype="float64"), device="cpu")
    expected = [result.image for result in engine.run(SAMPLES)]
    for stop in (0, 1, 5):
        stream = engine.stream(SAMPLES)
        for _ in range(stop):
            next(stream)
        stream.close()
    results = engine.run(SAMPLES)
    assert [torch.equal(r.image, e) for r, e in zip(results, expected, strict=True)] == [True] * 4


def test_engines_in_threads_do_not_meet():
    """Every option at once, networks in common: each run is what it is alone."""
    net, vision = TinyNet(), TinyVision()
    options = [EVERYTHING, Sampling(scale=20.0), Sampling(through="x0", smoothing=3)]
    engines = [
        make_engine(net, vision, replace(o, steps=6, dtype="float64"), device="cpu", batch_size=2)
        for o in options
    ]
    alone = [[r.image for r in engine.run(SAMPLES)] for engine in engines]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(lambda e: [r.image for r in e.run(SAMPLES)], engines[k % 3]) for k in range(9)]
    for k, future in enumerate(futures):
        for image, expected in zip(future.result(), alone[k % 3], strict=True):
            torch.testing.assert_close(image, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_cuda_itself_sees_no_wait(self, dtype):
        engine = make_engine(
            TinyNet(), TinyVision(), replace(EVERYTHING, steps=25, dtype=dtype), device="cuda"
        )
        stream = engine.stream(SAMPLES)
        next(stream)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(22):
                next(stream)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(list(stream)) == 2

    def test_pictures_are_those_of_the_cpu_with_every_option(self):
        images = []
        for device in ("cuda", "cpu"):
            engine = make_engine(TinyNet(), TinyVision(), replace(EVERYTHING, steps=8), device=device)
            images.append([result.image for result in engine.run(SAMPLES)])
        for ours, theirs in zip(*images, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)

    def test_readings_arrive(self):
        x = torch.arange(3, device="cuda")
        reading = HostCopy(x)
        x += 10
        assert reading.values()[0].tolist() == [0, 1, 2]
        assert reading.arrived()

    def test_batches_are_measured_and_halved(self):
        engine = make_engine(TinyNet(), TinyVision(), Sampling(steps=3), batch_size="auto", device="cuda")
        assert 1 <= engine.predict_batch_size(SAMPLES[0]) <= 64

    def test_noise_is_that_of_the_cpu(self):
        steps = [
            next(make_engine(TinyNet(), None, Sampling(steps=3), device=device).stream([Sample("", None, 5)]))
            for device in ("cuda", "cpu")
        ]
        assert torch.equal(steps[0].x_t.cpu(), steps[1].x_t)
        assert steps[0].x_t.shape == (1, *SHAPE)
