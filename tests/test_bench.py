"""The benchmark's library: what is run, how often, and whether the alternatives compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidelens.bench import REFERENCE, Alternative, machine
from guidelens.bench.cost import count_cost
from guidelens.bench.report import BatchReport, paired_median
from guidelens.bench.run import bench
from guidelens.bench.subjects import PARTS, BareStep, EngineStep, EveryObjective, PublishedStep, StepInputs
from guidelens.bench.timing import Clock, Peak, Spread, interleaved, peak_memory
from guidelens.diffusion import ReplayedNoise
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.sampling import Sampling
from torch import Tensor, nn
from toys import SHAPE, TinyNet, TinyVision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rates need no accuracy here."""
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    monkeypatch.setattr(machine, "_PIXELS", 8)


class Counting(TinyNet):
    """Keeps whether each evaluation kept a graph, and its batch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen: list[tuple[bool, int]] = []

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        self.seen.append((x_t.requires_grad, len(x_t)))
        return super().forward(x_t, timesteps)


class NoiseAware(TinyVision):
    """Reads x_t, as a noisy classifier does."""

    reads = "x_t"
    shown: Tensor
    told: Tensor

    def losses(self, images: Any, text: Any, objectives: Any, timesteps: Any = None) -> Any:
        self.shown, self.told = images.detach(), timesteps
        return super().losses(images, text, objectives)


def inputs(generator: Any, model: Any, *, batch: int = 2, steps: int = 4, **options: Any) -> StepInputs:
    engine = Engine(generator, model, Sampling(steps=steps, **options), device="cpu")
    return StepInputs.of(engine, model, "a red circle", batch, ("dot", "square"))


def test_rounds_are_interleaved_and_turn_round() -> None:
    order: list[str] = []

    def action(name: str) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            order.append(name)
            return {name: float(len(order))}

        return run

    rounds: list[int] = []
    seen = interleaved({"a": action("a"), "b": action("b")}, repeats=3, on_round=rounds.append)
    assert "".join(order) == "abbaab"
    assert rounds == [1, 2, 3]
    assert seen["a"].values == (1.0, 4.0, 5.0)
    assert (seen["a"].median, seen["a"].low, seen["a"].high) == (4.0, 1.0, 5.0)


def test_ratios_are_of_the_same_round() -> None:
    """A disturbance that hits both of a pair leaves their ratio alone."""
    assert paired_median(Spread((1.0, 20.0, 3.0)), Spread((2.0, 40.0, 6.0))) == 0.5


def test_shares_of_the_engine() -> None:
    report = BatchReport(
        batch=1,
        guided=Spread((1.1, 2.2, 3.3)),
        unguided=Spread((1.0, 1.0, 1.0)),
        parts={"generator forward": Spread((0.4, 0.8, 1.2)), "guidance forward": Spread((0.6, 1.2, 1.8))},
        forward=Spread((0.8, 0.8, 0.8)),
        hollow=Spread((0.02, 0.02, 0.02)),
        memory={"guided": Peak("resident", 1, 2), "unguided": Peak("resident", 1, 2)},
    )
    assert report.bare.values == (1.0, 2.0, 3.0)
    assert report.overhead == pytest.approx(0.1)
    assert report.unguided_overhead == pytest.approx(0.25)
    assert report.hollow_share == pytest.approx(0.01)


def test_the_clock_goes_on() -> None:
    clock = Clock(CPU)
    marks = [clock.start(), clock.mark(), clock.mark()]
    assert len(clock.between(marks)) == 2
    assert all(seconds >= 0 for seconds in clock.between(marks))


def test_the_peak_of_memory_is_seen() -> None:
    size = 300_000_000

    def spend() -> None:
        torch.ones(size, dtype=torch.uint8).sum()

    first = peak_memory(CPU, spend)
    if first.kind == "resident":  # elsewhere the high-water mark of the whole process is all there is
        assert first.peak - first.before > 0.8 * size
        assert peak_memory(CPU, lambda: None).peak < first.peak - 0.8 * size
    assert first.peak >= first.before > 0


def test_the_bare_step_evaluates_each_network_once() -> None:
    generator, model = Counting(), TinyVision()
    s = inputs(generator, model)
    parts = BareStep(s, generator)(Clock(CPU))
    assert tuple(parts) == PARTS
    assert generator.seen == [(True, 2)]


def test_a_model_that_reads_x_t_needs_no_gradient_of_the_generator() -> None:
    generator, model = Counting(), NoiseAware()
    s = inputs(generator, model)
    assert tuple(BareStep(s, generator)(Clock(CPU))) == PARTS[:3]
    assert torch.equal(model.shown, s.x_t)
    assert torch.equal(model.told, s.timesteps)
    PublishedStep(s, generator)()
    assert [graph for graph, _ in generator.seen] == [False, False]


def test_the_published_step_evaluates_twice() -> None:
    generator = Counting()
    PublishedStep(inputs(generator, TinyVision()), generator)()
    assert generator.seen == [(False, 2), (True, 2)]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("model", [TinyVision, NoiseAware])
def test_the_published_step_is_the_engines(model: Callable[[], Any], learned: bool) -> None:
    """Both reach the same x_{t-1} from the same x_t: what is timed against each other is the same work."""
    generator, vision = TinyNet(learned_variance=learned).eval(), model()
    s = inputs(generator, vision, scale=0.3)
    samples = [Sample("a red circle", EveryObjective(s.objectives), seed) for seed in range(2)]
    noise = ReplayedNoise([s.x_t, *(torch.zeros_like(s.x_t) for _ in range(4))])
    (step, *_) = s.engine.stream(samples, noise=noise)
    first = torch.full_like(s.index, 3)
    there = StepInputs(
        s.engine, s.x_t, first, s.engine.settings.process.timesteps[first], vision, s.text, s.objectives
    )
    torch.testing.assert_close(PublishedStep(there, generator, scale=0.3)(), step.sample)
    unguided = PublishedStep(there, generator, scale=0.0)()
    assert (unguided - step.sample).abs().max() > 1e-3


def test_engine_steps_begin_anew_outside_the_clock() -> None:
    generator = Counting()
    engine = Engine(generator, None, Sampling(steps=3), device="cpu")
    step = EngineStep(engine, [Sample("", None)])
    indices = []
    for _ in range(5):
        step.prepare()
        step()
        assert step.latest is not None
        indices.append(step.latest.index)
    step.close()
    assert indices == [1, 2, 1, 2, 1]  # the first of a stream is taken by prepare


def test_a_report_is_whole() -> None:
    generator, model = TinyNet(learned_variance=True).train(), TinyVision()
    told: list[str] = []
    report = bench(
        generator,
        model,
        batch_sizes=(1, 3, 1),
        repeats=2,
        against=[REFERENCE],
        device="cpu",
        threads=1,
        on_progress=told.append,
    )
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [batch["batch"] for batch in content["batches"]] == [1, 3]
    for batch in content["batches"]:
        assert list(batch["parts"]) == list(PARTS)
        for spread in (batch["guided"], batch["unguided"], batch["forward"], *batch["parts"].values()):
            assert len(spread["values"]) == 2
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert batch["against"][REFERENCE]["difference"] == 0
        assert batch["memory"]["guided"]["peak"] > 0
    assert content["generator"]["parameters"] == sum(p.numel() for p in generator.parameters())
    assert content["guidance"] == {"objectives": ["dot", "square"], "stand_in": False, "parameters": 16 * 49}
    assert content["machine"]["threads"] == 1
    assert all(rate > 0 for rate in content["rates"].values())
    assert told[0] == "measuring the machine"
    assert "batch 3: round 2 of 2" in told
    # Nothing is left behind.
    assert generator.training
    assert all(p.requires_grad for p in generator.parameters())


def test_operations_are_counted() -> None:
    """Two convolutions of 3x3, 4 to 8 and 8 to 3 channels, on 4x4 pixels: two operations per product."""
    report = bench(TinyNet(), TinyVision(), batch_sizes=(2,), repeats=1, device="cpu")
    assert report.flop == 2 * 16 * 9 * (4 * 8 + 8 * 3)


def test_without_a_guidance_model_the_generators_share_is_left() -> None:
    report = bench(TinyNet(), repeats=1, device="cpu")
    assert report.guidance == {"objectives": ["pixels"], "stand_in": True, "parameters": None}
    assert tuple(report.batches[0].parts) == PARTS


def test_chosen_objectives() -> None:
    report = bench(TinyNet(), TinyVision(), objectives=["dot"], repeats=1, device="cpu")
    assert report.guidance["objectives"] == ["dot"]


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    other = 1 if before > 1 else 2
    report = bench(TinyNet(), repeats=1, device="cpu", threads=other)
    assert report.machine["threads"] == other
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_precisions(dtype: str) -> None:
    report = bench(TinyNet(), TinyVision(), repeats=1, device="cpu", dtype=dtype)
    assert report.settings["dtype"] == dtype


class Offering(TinyNet):
    """A generator that knows other implementations of itself."""

    def alternatives(self) -> dict[str, Alternative]:
        return {
            "same": Alternative(lambda: self._copy(1.0), "a copy"),
            "off": Alternative(lambda: self._copy(1.5), "wrong by half"),
            "cut": Alternative(lambda: lambda x_t, _: x_t[:, :1], "of another shape"),
            "precise": Alternative(lambda: self._copy(1.0), "in float32 always", passes=2, float32=True),
        }

    def _copy(self, factor: float) -> Callable[[Tensor, Tensor], Tensor]:
        copy = TinyNet().eval().requires_grad_(False)
        return lambda x_t, timesteps: factor * copy(x_t, timesteps)


def test_alternatives_are_held_to_the_generators_output() -> None:
    report = bench(Offering(), TinyVision(), repeats=1, device="cpu", against=["same", "off"])
    against = report.batches[0].against
    assert against["same"].difference == 0
    assert against["off"].difference == pytest.approx(0.5)
    assert against["same"].speedup == pytest.approx(
        against["same"].step.median / report.batches[0].guided.median
    )


def test_an_alternative_may_keep_its_precision() -> None:
    dtypes: list[torch.dtype] = []

    class Watching(Offering):
        def _copy(self, factor: float) -> Callable[[Tensor, Tensor], Tensor]:
            copy = super()._copy(factor)

            def watched(x_t: Tensor, timesteps: Tensor) -> Tensor:
                output = copy(x_t, timesteps)
                dtypes.append(output.dtype)
                return output

            return watched

    bench(Watching(), repeats=1, device="cpu", dtype="bfloat16", against=["precise"])
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    bench(Watching(), repeats=1, device="cpu", dtype="bfloat16", against=["same"])
    assert set(dtypes) == {torch.bfloat16}


def test_an_alternative_of_another_shape_is_an_error() -> None:
    with pytest.raises(GuidelensError):
        bench(Offering(), repeats=1, device="cpu", against=["cut"])


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"against": ["faster"]}, "no alternative 'faster'.*it has reference"),
        ({"objectives": ["itc"]}, "'itc'"),
        ({"objectives": []}, "no objective"),
        ({"batch_sizes": ()}, "no batch size"),
        ({"batch_sizes": (0,)}, "batch size must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"warmup": 0}, "warmup must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"device": "tpu"}, "tpu"),
        ({"dtype": "int8"}, "int8"),
    ],
)
def test_requests_that_make_no_sense(request_: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        bench(TinyNet(), TinyVision(), **{"device": "cpu", "repeats": 1, **request_})


def test_a_batch_that_does_not_fit_is_named() -> None:
    class Greedy(TinyNet):
        def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
            if len(x_t) > 2:
                raise MemoryError
            return super().forward(x_t, timesteps)

    with pytest.raises(GuidelensError, match="a batch of 4 does not fit into memory"):
        bench(Greedy(), batch_sizes=(2, 4), repeats=1, device="cpu")


def test_the_engine_alone_has_the_shapes_of_the_generator() -> None:
    from guidelens.bench.run import _HollowGenerator

    for learned in (False, True):
        generator = TinyNet(learned_variance=learned)
        x_t = torch.zeros(2, *SHAPE, requires_grad=True)
        hollow = _HollowGenerator(generator)(x_t, torch.tensor([1, 2]))
        assert hollow.shape == generator(x_t, torch.tensor([1, 2])).shape
        assert hollow.requires_grad
    assert not isinstance(_HollowGenerator(TinyNet()), nn.Module)


def test_costs_are_counted_by_shape() -> None:
    """A product, an addition and a cast; views and empty tensors cost nothing."""
    a, b = torch.empty(4, 8, device="meta"), torch.empty(8, 2, device="meta")

    def action() -> Tensor:
        torch.empty_like(a)
        return ((a @ b).reshape(2, 4) + 1).to(torch.bfloat16)

    cost = count_cost(action)
    assert cost.count_of == {"aten::mm": 1, "aten::add": 1, "aten::_to_copy": 1}
    assert cost.flop == 2 * 4 * 8 * 2
    assert cost.bytes_of == {
        "aten::mm": 4 * (32 + 16 + 8),
        "aten::add": 4 * (8 + 8),
        "aten::_to_copy": (4 + 2) * 8,
    }
    assert cost.to_dict() == {
        "operations": 3,
        "casts": 1,
        "flop": 128,
        "bytes_moved": 224 + 64 + 48,
        "bytes_cast": 48,
    }


def test_the_gradient_of_a_convolution_does_not_read_its_input() -> None:
    x = torch.empty(1, 2, 4, 4, device="meta", requires_grad=True)
    weight = torch.empty(3, 2, 1, 1, device="meta")
    out = torch.nn.functional.conv2d(x, weight)
    cost = count_cost(lambda: torch.autograd.grad(out, x, torch.empty_like(out)))
    assert cost.bytes_of["aten::convolution_backward"] == 4 * (48 + 6 + 32)
