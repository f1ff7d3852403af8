"""Batches that do not fit: halved, finished, told once; batch sizes foreseen."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from guidelens import memory
from guidelens.engine import Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import ComponentError
from guidelens.memory import MicroBatches, bytes_used, is_out_of_memory, knee, predict_batch
from guidelens.sampling import Sampling
from torch import nn
from toys import Constant, GaussianGenerator, Quadratic, Shift, TinyNet, TinyVision, make_engine

SAMPLES = [
    Sample("a red circle", Constant(dot=1.0), 0),
    Sample("two squares", Shift("dot", "square"), 1),
    Sample("a cross", None, 3),
    Sample("a red circle", Constant(dot=0.5, square=0.5), 2, scale=10.0),
    Sample("a cross", Constant(square=1.0), 4),
    Sample("two squares", Shift("square", "dot"), 1),
    Sample("two squares", Constant(square=-1.0), 4),
]


def cuda_error():
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


def cpu_error():
    """The allocator's own, for a request that no machine can meet."""
    with pytest.raises(RuntimeError) as info:
        torch.empty(1 << 56, dtype=torch.uint8)
    return info.value


class Narrow(TinyNet):
    """A generator that runs out of memory beyond ``capacity`` pictures, or in gradients beyond ``backward``."""

    def __init__(self, capacity, error=cuda_error):
        super().__init__()
        self.capacity, self._error = capacity, error
        self.evaluated: list[int] = []
        self.failed: list[int] = []

    def forward(self, x_t, timesteps):
        if len(x_t) > self.capacity:
            self.failed.append(len(x_t))
            raise self._error()
        self.evaluated.append(len(x_t))
        return super().forward(x_t, timesteps)


class Recomputing(Narrow):
    """Fits a single picture only once activations are computed again."""

    def __init__(self):
        super().__init__(0)
        self.switched: list[bool] = []

    def checkpointing(self, enabled):
        self.switched.append(enabled)
        self.capacity = 1


def engine(generator, vision=None, **settings):
    settings = {"scale": 30.0, "recurrence": 2, "augment": "crop", **settings}
    return make_engine(generator, vision or TinyVision(), steps=5, dtype="float64", **settings)


@pytest.mark.parametrize("error", [cuda_error, cpu_error, MemoryError])
@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_results_are_those_of_enough_memory(capacity, error, caplog):
    expected = list(engine(TinyNet()).run(SAMPLES))
    narrow, steps = Narrow(capacity, error), []
    with caplog.at_level(logging.INFO, logger="guidelens"):
        results = list(engine(narrow).run(SAMPLES, on_step=steps.append))
    assert [result.sample for result in results] == SAMPLES
    assert [step.index for step in steps] == list(range(5))
    for ours, theirs in zip(results, expected, strict=True):
        torch.testing.assert_close(ours.image, theirs.image, rtol=1e-9, atol=1e-9)
        assert ours.losses.keys() == theirs.losses.keys()
        for name, series in theirs.losses.items():
            assert ours.losses[name] == pytest.approx(series, nan_ok=True)
            assert ours.gradient_norms[name] == pytest.approx(theirs.gradient_norms[name], nan_ok=True)
        for pair, series in theirs.cosines.items():
            assert ours.cosines[pair] == pytest.approx(series, nan_ok=True)
    assert sum(narrow.evaluated) == 5 * 2 * len(SAMPLES)  # no sample twice, whatever failed before
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "7 pictures at once do not fit into memory" in warnings[0].getMessage()
    assert "continuing with 3" in warnings[0].getMessage()
    assert narrow.failed == {1: [7, 3], 2: [7, 3], 3: [7]}[capacity]


def test_what_fitted_is_remembered_between_runs():
    narrow = Narrow(2)
    again = engine(narrow)
    list(again.run(SAMPLES))
    failed = len(narrow.failed)
    list(again.run(SAMPLES))
    assert len(narrow.failed) == failed


def test_in_the_guidance_model_too():
    class Wide(TinyVision):
        def losses(self, images, text, objectives):
            if len(images) > 1:
                raise cuda_error()
            return super().losses(images, text, objectives)

    ours = list(engine(TinyNet(), Wide()).run(SAMPLES))
    theirs = list(engine(TinyNet()).run(SAMPLES))
    for result, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(result.image, expected.image, rtol=1e-9, atol=1e-9)


def test_activations_are_computed_again_only_when_a_single_picture_does_not_fit(caplog):
    generator = Recomputing()
    with caplog.at_level(logging.WARNING, logger="guidelens"):
        results = list(engine(generator).run(SAMPLES[:3]))
    assert generator.switched == [True]
    assert generator.failed == [3, 1]
    assert "activations are recomputed" in caplog.text
    for ours, theirs in zip(results, engine(TinyNet()).run(SAMPLES[:3]), strict=True):
        torch.testing.assert_close(ours.image, theirs.image, rtol=1e-9, atol=1e-9)

    class Enough(Recomputing):
        def __init__(self):
            super().__init__()
            self.capacity = 2

    generator = Enough()
    list(engine(generator).run(SAMPLES[:5]))
    assert generator.switched == []


def test_a_single_picture_that_does_not_fit_ends_the_run_in_one_line():
    with pytest.raises(GuidelensError, match=r"not even one picture fits into memory \(CUDA out of") as info:
        list(engine(Narrow(0)).run(SAMPLES))
    assert "\n" not in str(info.value)
    assert not isinstance(info.value, UsageError)
    generator = Recomputing()
    generator.checkpointing = lambda enabled: None  # offers to, to no avail
    with pytest.raises(GuidelensError, match="not even one picture fits"):
        list(engine(generator).run(SAMPLES))


def test_other_errors_are_not_taken_for_it():
    class Broken(TinyNet):
        def forward(self, x_t, timesteps):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(ComponentError, match="mat1"):
        list(engine(Broken()).run(SAMPLES))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"))
    assert is_out_of_memory(cpu_error())


def test_nothing_of_a_failed_attempt_is_kept():
    alive: list[int] = []

    class Heavy:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def evaluate(rows):
        assert not alive, "the failed attempt's tensors are still there"
        held = Heavy()
        if len(rows) > 2:
            raise cuda_error()
        del held
        return list(rows)

    assert MicroBatches().run(5, evaluate) == [[0, 1], [2, 3], [4]]


def test_threads_share_what_they_learn():
    def evaluate(rows):
        if len(rows) > 2:
            raise cuda_error()
        return list(rows)

    parts = MicroBatches()
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: parts.run(9, evaluate), range(20)))
    assert all([row for part in rows for row in part] == list(range(9)) for rows in done)
    assert parts.limit in (1, 2)


class TestPrediction:
    @pytest.mark.parametrize(
        ("available", "expected"), [(1500, 12), (100, 1), (0, 1), (10**9, 64), (None, 64)]
    )
    def test_between_one_and_the_largest(self, available, expected):
        assert predict_batch(lambda n: 1000 + 100 * n, available) == expected

    def test_what_needs_nothing_takes_the_largest(self):
        assert predict_batch(lambda n: 0, 1000) == 64

    def test_bytes_are_those_that_gradients_keep(self):
        layer = nn.Linear(100, 200)

        def evaluate(count):
            x = torch.randn(count, 100, requires_grad=True)
            layer.requires_grad_(False)
            torch.tanh(layer(x)).sum()

        used = [bytes_used(lambda n=n: evaluate(n), torch.device("cpu")) for n in (1, 2, 5)]
        assert used[1] - used[0] == 1.5 * 200 * 4  # the tanh keeps its output
        assert used[2] - used[0] == 4 * (used[1] - used[0])

    def test_auto_takes_what_fits(self, monkeypatch):
        generator = GaussianGenerator()
        sizes = []

        def losses(images, text, objectives):
            sizes.append(len(images))
            return Quadratic.losses(model, images, text, objectives)

        model = Quadratic()
        model.losses = losses
        wide = make_engine(generator, model, Sampling(steps=2), batch_size="auto", device="cpu")
        samples = [Sample("0.5", Constant(near=1.0), seed) for seed in range(6)]
        assert wide.predict_batch_size(samples[0]) == 64
        grown = []
        with monkeypatch.context() as patch:
            patch.setattr(
                "guidelens.engine.predict_batch",
                lambda measure, _: grown.append(measure(2) - measure(1)) or 1,
            )
            wide.predict_batch_size(samples[0])
        monkeypatch.setattr("guidelens.engine.available_memory", lambda device: int(grown[0] * 4 / 0.8))
        sizes.clear()
        narrow = make_engine(generator, model, Sampling(steps=2), batch_size="auto", device="cpu")
        results = list(narrow.run(samples))
        assert sizes == [1, 2, 4, 4, 2, 2]  # measured at one and two, then in fours
        assert [result.sample for result in results] == samples

    def test_a_probe_that_fails_means_one(self):
        assert engine(Narrow(1), batch_size="auto").predict_batch_size(SAMPLES[0]) == 1

    @pytest.mark.parametrize("wrong", [0, -1, "many", 1.5, True])
    def test_sizes_that_are_none(self, wrong):
        with pytest.raises(UsageError, match="batch size must be at least 1"):
            engine(TinyNet(), batch_size=wrong)


class TestAvailable:
    def test_of_the_host(self, tmp_path):
        source = tmp_path / "meminfo"
        source.write_text("MemTotal: 100 kB\nMemAvailable:   50 kB\n")
        assert memory._host_available(source) == 50 * 1024
        assert memory._host_available(tmp_path / "none") is None

    def test_of_a_container(self, tmp_path):
        (tmp_path / "memory.max").write_text("1000\n")
        (tmp_path / "memory.current").write_text("700\n")
        (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 250\n")
        assert memory._cgroup_available(tmp_path) == 550
        (tmp_path / "memory.max").write_text("max\n")
        assert memory._cgroup_available(tmp_path) is None

    def test_of_cuda(self, monkeypatch):
        fake = SimpleNamespace(
            mem_get_info=lambda device: (700, 1000),
            memory_reserved=lambda device: 200,
            memory_allocated=lambda device: 50,
        )
        monkeypatch.setattr(memory.torch, "cuda", fake)
        assert memory.available_memory(torch.device("cuda", 0)) == 850

    def test_here(self):
        assert (memory.available_memory(torch.device("cpu")) or 2**40) > 2**20


@pytest.mark.parametrize(
    ("fixed", "per_picture", "largest", "expected"),
    [
        (1.0, 1.0, 64, 16),  # 2, 1.5, 1.25, 1.125, 1.0625, then 1.03: 3 % less
        (0.0, 1.0, 64, 1),  # a batch is never faster
        (1.0, 0.0, 64, 64),  # it is free
        (1.0, 0.0, 24, 24),
        (1.0, 1.0, 1, 1),
    ],
)
def test_batches_grow_while_it_pays(fixed: float, per_picture: float, largest: int, expected: int) -> None:
    tried: list[int] = []

    def seconds(size: int) -> float:
        tried.append(size)
        return fixed + per_picture * size

    assert knee(seconds, largest) == expected
    assert max(tried) <= largest
