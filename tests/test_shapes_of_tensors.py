"""The shapes in the annotations of the numerical functions hold: jaxtyping's, checked by beartype in tests alone."""

from __future__ import annotations

import inspect
import types
from typing import Any

import jaxtyping
import pytest
import torch
from beartype import beartype
from guidelens.diffusion import multistep, noise, process, samplers
from guidelens.guidance import gradients, views
from guidelens.metrics import distribution
from plugin_worlds import run_python

B, C, H, W = 2, 3, 4, 5
NAMES = {
    name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Float32", "Float64", "Int64", "Shaped")
}
MODULES = (process, samplers, multistep, noise, gradients, views, distribution)


def checked(function: types.FunctionType) -> Any:
    """Return a function that checks the shapes of its arguments and result."""
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    known = {"Tensor": torch.Tensor, **function.__globals__, **NAMES}
    copy.__annotations__ = {key: eval(text, known) for key, text in function.__annotations__.items()}
    return jaxtyping.jaxtyped(copy, typechecker=beartype)


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [
        value
        for module in MODULES
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    for owner in (*MODULES, *classes):
        for name, value in list(vars(owner).items()):
            generated = name.startswith("__")  # by dataclass
            if (
                inspect.isfunction(value)
                and not generated
                and any(n in str(value.__annotations__) for n in NAMES)
            ):
                monkeypatch.setattr(owner, name, checked(value))


@pytest.fixture
def made() -> process.DiffusionProcess:
    return process.DiffusionProcess(process.alphas_cumprod_of(process.beta_schedule("linear")), 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("learned", [False, True])
def test_the_process(made: process.DiffusionProcess, learned: bool, dtype: torch.dtype) -> None:
    x = torch.randn(B, C, H, W, dtype=dtype)
    index = torch.tensor([0, 9])
    made.q_sample(x, index, x)
    made.renoise(x, index, x)
    made.predict_eps(x, x, index)
    output = torch.cat([x, x.clamp(-1, 1)], dim=1) if learned else x
    options: dict[str, Any] = {"learned_variance": learned, "clip_denoised": True}
    for prediction in ("epsilon", "x0", "v"):
        step = made.p_mean_variance(output, x, index, prediction=prediction, **options)
        assert step.mean.shape == x.shape


def test_gradients() -> None:
    point = torch.randn(B, C, H, W, requires_grad=True)
    gradient = gradients.vjp(point.flatten(1) ** 2, point, torch.ones(B, C * H * W), (2.0, 1.0))
    gradients.zero_rows(gradient, gradients.all_finite(gradient))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("sampler", [samplers.DDPM(), samplers.DDIM(eta=0.5), multistep.DPMSolver()])
def test_samplers(made: process.DiffusionProcess, sampler: Any, learned: bool) -> None:
    draws = noise.NoiseStream([0, 1], (C, H, W))
    x, begin = draws.next(), getattr(sampler, "begin", None)
    output = torch.cat([x, x.clamp(-1, 1)], dim=1) if learned else x
    steps = sampler if begin is None else begin()
    for index in (torch.tensor([9, 9]), torch.tensor([8, 8])):
        step = steps.step(
            made,
            output,
            x,
            index,
            prediction="epsilon",
            learned_variance=learned,
            clip_denoised=True,
            guidance=x,
            noise=draws.next(),
        )
        assert step.sample.shape == x.shape
    for into in ("score", "x0", "sample"):
        sampler.guidance_gain(made, into)
    with pytest.raises(jaxtyping.TypeCheckError):
        steps.step(
            made,
            output,
            x,
            torch.tensor([7.0, 7.0]),
            prediction="epsilon",
            learned_variance=learned,
            clip_denoised=True,
        )


def test_noise_views_and_distances() -> None:
    keyed = noise.KeyedNoise([0, 1])
    assert keyed.normal((C, H), "a", 1).shape == (2, C, H)
    assert keyed.uniform((), "a", rows=[1]).shape == (1,)
    loss, shares = views.combined_loss(torch.randn(4, B), "logmeanexp")
    assert (loss.shape, shares.shape) == ((B,), (4, B))
    distribution.cmmd_of(torch.randn(4, 6), torch.randn(5, 6))
    with pytest.raises(jaxtyping.TypeCheckError):
        views.combined_loss(torch.randn(B), "mean")
    with pytest.raises(jaxtyping.TypeCheckError):
        distribution.cmmd_of(torch.randn(4, 6), torch.randn(5, 7))
    replayed = noise.ReplayedNoise([torch.randn(B, C)])
    with pytest.raises(jaxtyping.TypeCheckError):
        replayed.next()


def test_other_shapes_are_refused(made: process.DiffusionProcess) -> None:
    x, index = torch.randn(B, C, H, W), torch.tensor([0, 9])
    wrong = jaxtyping.TypeCheckError
    with pytest.raises(wrong):
        made.q_sample(x, index, x[:, :, :, :1])
    with pytest.raises(wrong):
        made.q_sample(x, index[:1], x)
    with pytest.raises(wrong):
        made.predict_eps(x, x, index.double())
    with pytest.raises(wrong):
        process.lookup(torch.ones(10), index, x)
    with pytest.raises(wrong):
        gradients.zero_rows(x, torch.ones(B + 1, dtype=torch.bool))


def test_users_need_neither() -> None:
    printed = run_python(
        "import guidelens.diffusion, guidelens.guidance.gradients, sys; print('jaxtyping' in sys.modules)"
    )
    assert printed.strip() == "False"
