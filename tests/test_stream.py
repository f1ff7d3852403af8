"""``guidelens.stream``: the steps of Engine.stream and the picture of ``draw``, by name or object, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import guidelens
import pytest
import torch
from guidelens import Engine, PluginManager, Prompt, Sample, Step, UsageError
from guidelens.runs.single import draw
from guidelens.sampling import Sampling
from guidelens.testing import TinyGenerator, TinyGuidanceModel
from plugin_worlds import run_python

ITC = guidelens.PluginManager.load().build("schedule", "itc")


def last(steps: object) -> Step:
    *_, step = steps  # type: ignore[misc]
    assert isinstance(step, Step)
    return step


def test_it_yields_the_steps_of_an_engine() -> None:
    parts = {"generator": TinyGenerator(), "guidance": TinyGuidanceModel()}
    options = Sampling(scale=2.0)
    ours = guidelens.stream(
        "a circle",
        ITC,
        sampling=replace(options, steps=4, sampler="ddim", eta=0.5),
        seed=7,
        device="cpu",
        **parts,
    )
    engine = Engine(
        *parts.values(), sampling=replace(options, steps=4, sampler="ddim", eta=0.5), device="cpu"
    )
    theirs = engine.stream([Sample("a circle", ITC, seed=7)])
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.index, mine.timestep) == (other.index, other.timestep)
        assert torch.equal(mine.sample, other.sample)
        assert torch.equal(mine.losses["itc"], other.losses["itc"])


def test_by_name_it_ends_in_the_picture_of_generate() -> None:
    plugins = PluginManager.load(["guidelens.testing.tiny"])
    names = {
        "generator": "tiny",
        "guidance": "tiny",
        "plugins": plugins,
        "sampling": Sampling(steps=3),
        "seed": 5,
    }
    step = last(guidelens.stream(Prompt("a circle", "a disc"), "shift", **names))
    drawing = draw("a circle", "shift", metrics=(), **names)
    assert torch.equal(step.sample[0].cpu(), drawing.result.image)


def test_prompts_are_rows_that_share_the_noise() -> None:
    parts = {"generator": TinyGenerator(), "guidance": TinyGuidanceModel(), "sampling": Sampling(steps=3)}
    parts["device"] = "cpu"
    both = list(guidelens.stream(["a circle", Prompt("a square"), "a circle"], ITC, seed=1, **parts))
    assert torch.equal(both[0].x_t[0], both[0].x_t[1])
    assert not torch.equal(both[-1].sample[0], both[-1].sample[1])
    alone = last(guidelens.stream("a square", ITC, seed=1, **parts))
    torch.testing.assert_close(both[-1].sample[1:2], alone.sample)
    assert len(both[-1].sample) == 3  # what is asked for twice is drawn twice


def test_closing_it_puts_the_networks_back() -> None:
    generator = TinyGenerator()
    evaluations = 0

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            for name in ("alphas_cumprod", "image_shape", "prediction", "learned_variance", "fingerprint"):
                setattr(self, name, getattr(generator, name))

        def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            nonlocal evaluations
            evaluations += 1
            return self.weight * generator(x_t, timesteps)

    network = Counting()
    steps = guidelens.stream(
        "a circle",
        ITC,
        sampling=Sampling(steps=9),
        generator=network,
        guidance=TinyGuidanceModel(),
        device="cpu",
    )
    assert evaluations == 0  # nothing runs before the first step is asked for
    next(steps)
    next(steps)
    assert evaluations == 2
    assert not network.weight.requires_grad
    assert not network.training
    steps.close()
    assert network.weight.requires_grad
    assert network.training
    assert list(steps) == []
    assert evaluations == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "shif"}, "did you mean 'shift'"),
        ({"prompts": " "}, "prompt is empty"),
        ({"prompts": []}, "no samples"),
        ({"schedule": ["shift", "itc"]}, "one schedule is drawn at a time, got shift, itc"),
        ({"seed": -1}, "seed"),
        ({"sampling": Sampling(eta=0.5)}, "eta"),
    ],
)
def test_a_wrong_request_is_refused_at_once(wrong: dict[str, object], said: str) -> None:
    """Before the first step is asked for."""
    parts = {"generator": TinyGenerator(), "guidance": TinyGuidanceModel(), "device": "cpu"}
    with pytest.raises(UsageError, match=said):
        guidelens.stream(
            **({"prompts": "a circle", "schedule": ITC, "sampling": Sampling(steps=3)} | parts | wrong)
        )  # type: ignore[arg-type]


def test_two_threads_get_what_one_gets() -> None:
    """With networks in common, and each with its own that are built at the same moment."""
    shared = {
        "generator": TinyGenerator(),
        "guidance": TinyGuidanceModel(),
        "sampling": Sampling(steps=4),
        "device": "cpu",
    }
    start = Barrier(2)

    def together(seed: int) -> torch.Tensor:
        start.wait()
        return last(guidelens.stream("a circle", ITC, seed=seed, **shared)).sample

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(together, [0, 1]))
    for seed, sample in enumerate(found):
        assert torch.equal(sample, last(guidelens.stream("a circle", ITC, seed=seed, **shared)).sample)


def test_two_threads_may_be_the_first_to_load_anything() -> None:
    """In a fresh process, where both build the shipped models by name at once."""
    code = """
        from concurrent.futures import ThreadPoolExecutor
        import guidelens
        from guidelens import Sampling

        def draw(seed):
            *_, step = guidelens.stream("a red circle", "shift", seed=seed, sampling=Sampling(steps=2), device="cpu")
            return step.sample

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(draw, [0, 1]))
        print([bool((sample == draw(seed)).all()) for seed, sample in enumerate(both)])
    """
    import textwrap

    assert run_python(textwrap.dedent(code)).splitlines()[-1] == "[True, True]"
