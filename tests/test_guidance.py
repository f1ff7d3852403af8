"""The guidance gradient against finite differences; its telemetry, its plan, its float16 path."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.errors import GuidelensError, UsageError
from guidelens.guidance import (
    HALF_PRECISION_LOSS_SCALES,
    GuidedDenoiser,
    plan_guidance,
    resolve,
    resolve_scales,
    scaled_vjp,
)
from guidelens.sampling import Sampling
from toys import SHAPE, Constant, Quadratic, Shift, TinyNet, TinyVision

SCALES = {"dot": 0.7, "square": -1.3}


def tiny_setup(prediction="v", learned=False, schedules=None, **options):
    """A denoiser over two samples in float64, with x_t and the respaced indices."""
    net = TinyNet(prediction=prediction, learned_variance=learned).double().eval()
    vision = TinyVision().double().eval()
    schedules = schedules or [Constant(dot=0.5, square=2.0), Constant(dot=1.0)]
    plan = plan_guidance(schedules, [1.5, -0.5], [True], vision.objectives)
    with torch.no_grad():
        text = vision.encode_text(["a red circle", "two squares"])
    settings = resolve(Sampling(steps=9, objective_scales=SCALES, **options), net, vision)
    denoiser = GuidedDenoiser(net, vision, settings, plan, text)
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    return denoiser, net, vision, text, settings.process, x_t, torch.tensor([6, 2])


def seen(net, process, x_t, index, see):
    """What the guidance model is shown, from the definitions."""
    abar = process.alphas_cumprod[index].reshape(-1, 1, 1, 1)
    output = net(x_t, process.timesteps[index])[:, :3]
    x0 = {
        "epsilon": lambda: (x_t - (1 - abar).sqrt() * output) / abar.sqrt(),
        "x0": lambda: output,
        "v": lambda: abar.sqrt() * x_t - (1 - abar).sqrt() * output,
    }[net.prediction]()
    share = (1 - abar).sqrt()
    return x0 if see == "x0" else share * x0 + (1 - share) * x_t


def weighted_losses(vision, text, images):
    """Log p of each sample, times its scale s, for the schedules of tiny_setup."""
    losses = vision.losses(images, text, ["dot", "square"])
    first = 0.5 * SCALES["dot"] * losses["dot"][0] + 2.0 * SCALES["square"] * losses["square"][0]
    second = SCALES["dot"] * losses["dot"][1]
    return -1.5 * first, 0.5 * second


def central_differences(function, x_t, step=1e-5):
    gradient = torch.zeros_like(x_t)
    flat = x_t.flatten()
    with torch.no_grad():
        for k in range(flat.numel()):
            ends = []
            for sign in (1, -1):
                moved = flat.clone()
                moved[k] += sign * step
                ends.append(sum(function(moved.reshape(x_t.shape))))
            gradient.view(-1)[k] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("see", ["x0", "blend"])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_gradient_is_that_of_finite_differences(prediction, learned, see):
    denoiser, net, vision, text, process, x_t, index = tiny_setup(prediction, learned, see=see)
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
    expected = central_differences(
        lambda x: weighted_losses(vision, text, seen(net, process, x, index, see)), x_t
    )
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(guided.output, net(x_t, process.timesteps[index]).detach())
    assert not guided.gradient.requires_grad
    assert not guided.output.requires_grad


@pytest.mark.parametrize("see", ["x0", "blend"])
def test_gradient_past_the_network_holds_its_jacobian_at_sqrt_abar(see):
    denoiser, net, vision, text, process, x_t, index = tiny_setup("epsilon", through="x0", see=see)
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
        abar = process.alphas_cumprod[index].reshape(-1, 1, 1, 1)
        x0 = seen(net, process, x_t, index, "x0")

    def moved(x):
        share = (1 - abar).sqrt() if see == "blend" else 1
        return weighted_losses(vision, text, share * (x0 + abar.sqrt() * (x - x_t)) + (1 - share) * x)

    torch.testing.assert_close(guided.gradient, central_differences(moved, x_t), rtol=1e-6, atol=1e-8)


def test_telemetry_is_each_objectives_own():
    denoiser, net, vision, text, process, x_t, index = tiny_setup()
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
    images = seen(net, process, x_t, index, "x0").detach().requires_grad_()
    losses = vision.losses(images, text, ["dot", "square"])
    gradients = {
        name: torch.autograd.grad(loss.sum(), images, retain_graph=True)[0].flatten(1)
        for name, loss in losses.items()
    }
    # Sorted by name: dot, square. The second sample has no "square".
    for k, name in enumerate(("dot", "square")):
        torch.testing.assert_close(guided.losses[k, 0], losses[name][0].detach())
        torch.testing.assert_close(guided.gradient_norms[k, 0], gradients[name][0].norm())
    torch.testing.assert_close(guided.losses[0, 1], losses["dot"][1].detach())
    assert guided.losses[1, 1].isnan()
    assert guided.gradient_norms[1, 1].isnan()
    cosine = torch.cosine_similarity(gradients["dot"][0], gradients["square"][0], dim=0)
    torch.testing.assert_close(guided.cosines["dot", "square"][0], cosine)
    assert guided.cosines["dot", "square"][1].isnan()
    assert list(guided.cosines) == [("dot", "square")]
    assert not guided.nonfinite.any()


def quadratic_denoiser(schedules, scales=None, model=None, options=None, generator=lambda x, t: x * 1):
    """A denoiser whose network is the identity and predicts x0, so that the model sees x_t."""
    model = model or Quadratic()
    scales = scales or [1.0] * len(schedules)
    plan = plan_guidance(schedules, scales, [True] * 5, model.objectives)
    text = model.encode_text([f"0.{k}" for k in range(len(schedules))])
    settings = resolve(replace(options or Sampling(), steps=5), TinyNet(prediction="x0"), model)
    return GuidedDenoiser(generator, model, settings, plan, text), model


def call(denoiser, batch, step=0):
    with torch.no_grad():
        return denoiser(torch.ones(batch, *SHAPE), torch.full((batch,), 4 - step), step)


def test_opposite_objectives_have_cosine_minus_one_and_flat_ones_none():
    denoiser, _ = quadratic_denoiser([Constant(near=1, away=1, steep=1)])
    cosines = call(denoiser, 1).cosines
    assert cosines["away", "near"].item() == pytest.approx(-1)
    assert cosines["near", "steep"].isnan()  # at x_t = 1 "steep" is flat
    assert set(cosines) == {("away", "near"), ("away", "steep"), ("near", "steep")}


def test_only_active_objectives_are_evaluated_and_only_where():
    schedules = [Shift("near", "steep"), Constant(near=1.0), None, Constant(near=0.0, steep=0.0)]
    denoiser, model = quadratic_denoiser(schedules)
    expected = {
        0: [(("near",), 2)],  # both samples in one call
        2: [(("near", "steep"), 1), (("near",), 1)],
        4: [(("steep",), 1), (("near",), 1)],
    }
    for step, calls in expected.items():
        model.asked.clear()
        guided = call(denoiser, 4, step)
        assert sorted(model.asked) == sorted(calls)
        assert (guided.gradient[2:] == 0).all()
        assert guided.losses[:, 2:].isnan().all()
    assert model.encoded == [("0.0", "0.1", "0.2", "0.3")]


def test_nothing_active_means_no_gradient():
    denoiser, model = quadratic_denoiser([Constant(near=1.0), None], scales=[0.0, 1.0])
    guided = call(denoiser, 2)
    assert guided.gradient is None
    assert model.asked == []
    assert guided.losses.shape == (0, 2)


class Faulty(Quadratic):
    """``near`` has a gradient that is nan for prompt 0.1, and inf for prompt 0.2."""

    def losses(self, images, text, objectives):
        losses = super().losses(images, text, objectives)
        flat = images.flatten(1).sum(dim=1)
        bad = torch.tensor([prompt in ("0.1", "0.2") for prompt in text.prompts])
        factor = torch.tensor([float(prompt == "0.2") for prompt in text.prompts])
        root = torch.where(bad, flat - flat.detach(), 1.0).sqrt()  # slope inf; inf * 0 is nan
        return {name: loss + factor * root for name, loss in losses.items()}


@pytest.mark.parametrize("through", ["unet", "x0"])
def test_a_nonfinite_gradient_leaves_its_sample_alone_unguided(through):
    options = Sampling(through=through)
    guided = call(quadratic_denoiser([Constant(near=1.0)] * 4, model=Faulty(), options=options)[0], 4)
    clean = call(quadratic_denoiser([Constant(near=1.0)] * 4, options=options)[0], 4)
    assert guided.nonfinite.tolist() == [False, True, True, False]
    assert (guided.gradient[1:3] == 0).all()
    torch.testing.assert_close(guided.gradient[[0, 3]], clean.gradient[[0, 3]])
    assert (clean.gradient != 0).all()


def test_a_nonfinite_cotangent_never_enters_the_network():
    entered = []

    def identity(x_t, timesteps):
        output = x_t * 1
        if output.requires_grad:
            output.register_hook(lambda cotangent: entered.append(bool(cotangent.isfinite().all())))
        return output

    denoiser, _ = quadratic_denoiser([Constant(near=1.0)] * 4, model=Faulty(), generator=identity)
    assert call(denoiser, 4).nonfinite.any()
    assert entered == [True]


def test_a_scale_that_overflows_the_gradient_counts_as_nonfinite():
    guided = call(quadratic_denoiser([Constant(near=1e30)] * 2, scales=[1e30, 1.0])[0], 2)
    assert guided.nonfinite.tolist() == [True, False]


class Broken(Quadratic):
    def __init__(self, make):
        super().__init__()
        self._make = make

    def losses(self, images, text, objectives):
        return self._make(images)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda images: {"far": images.sum(dim=(1, 2, 3))},
            r"losses \['far'\]; it was asked for \['near'\]",
        ),
        (lambda images: {"near": images.sum()}, r"'near' returned \(\); a loss per sample is \(2,\)"),
        (lambda images: {"near": images.detach().sum(dim=(1, 2, 3))}, "'near' is not differentiable"),
        (lambda images: {"near": torch.zeros(2, requires_grad=True) * 1}, "does not depend on its input"),
    ],
)
def test_losses_that_break_the_contract(make, words):
    with pytest.raises(GuidelensError, match=words):
        call(quadratic_denoiser([Constant(near=1.0)] * 2, model=Broken(make))[0], 2)


def test_plans_name_what_is_wrong():
    known = frozenset({"itc", "itm"})
    with pytest.raises(UsageError, match=r"{'cap': 0.0}\) names the objective 'cap'.*it has itc, itm"):
        plan_guidance([Constant(cap=0.0)], [1.0], [True, True], known)
    for weight in (math.nan, math.inf, "1", None):
        with pytest.raises(UsageError, match=r"the weight of 'itc' at progress 0 .*must be a finite number"):
            plan_guidance([Constant(itc=weight)], [1.0], [True], known)
    with pytest.raises(UsageError, match="there is none"):
        plan_guidance([Constant(itc=1.0)], [1.0], [True], frozenset())


def test_a_schedule_that_goes_wrong_late_is_found_before_the_start():
    class Late:
        def weights(self, progress):
            return {"itc": math.nan if progress == 1 else 1.0}

    with pytest.raises(UsageError, match="at progress 1 must be"):
        plan_guidance([Late()], [1.0], [True] * 3, frozenset({"itc"}))


def test_plans_select_samples_with_their_objectives():
    known = frozenset({"near", "away", "steep"})
    plan = plan_guidance(
        [Shift("near", "steep"), Constant(away=2.0), None], [1.0, 3.0, 1.0], [True, True], known
    )
    assert plan.objectives == ("away", "near", "steep")
    part = plan.select([2, 1])
    assert part.objectives == ("away",)
    assert part.weights.tolist() == [[[0.0], [2.0]]] * 2
    assert part.scales.tolist() == [1.0, 3.0]
    assert plan.used_by(0) == ("near", "steep")
    assert plan.groups(0) == [(("near",), (0,)), (("away",), (1,))]


def test_objective_scales():
    model = Quadratic()
    assert resolve_scales(model, {}) == {"near": 1.0, "away": 1.0, "steep": 1.0}
    model.default_scales = {"near": 300.0, "steep": 2.0}
    assert resolve_scales(model, {"steep": 5.0}) == {"near": 300.0, "away": 1.0, "steep": 5.0}
    with pytest.raises(UsageError, match="'far', unknown to the guidance model; it has away, near, steep"):
        resolve_scales(model, {"far": 1.0})
    assert resolve_scales(None, {}) == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scale": math.nan}, "scale must be a finite number, got nan"),
        ({"scale": math.inf}, "must be a finite number"),
        (
            {"objective_scales": {"itc": math.inf}},
            "objective_scales must be finite numbers, got inf for 'itc'",
        ),
        ({"through": "vae"}, "through must be one of unet, x0, got 'vae'"),
        ({"see": "x_t"}, "see must be one of x0, clamped, blend, got 'x_t'"),
    ],
)
def test_unusable_options(wrong, words):
    with pytest.raises(UsageError, match=words):
        Sampling(**wrong)


def half_chain(x, factor, length):
    """x * factor^length, in ``length`` float16 products."""
    half = x.half()
    for _ in range(length):
        half = half * factor
    return half.to(x.dtype)


def half_gradient(factor, length, cotangent, scales=HALF_PRECISION_LOSS_SCALES):
    x = torch.ones(len(cotangent), 2, requires_grad=True)
    return scaled_vjp(half_chain(x, factor, length), x, cotangent, scales)


def test_float16_gradients_that_would_vanish_are_exact():
    cotangent = torch.tensor([[3e-9, 1e-9], [1.0, -0.5]])
    x = torch.ones(2, 2, requires_grad=True)
    (plain,) = torch.autograd.grad(half_chain(x, 2.0**-10, 2), x, cotangent)
    assert (plain[0] == 0).all()
    expected = cotangent * 2.0**-20
    torch.testing.assert_close(half_gradient(2.0**-10, 2, cotangent), expected, rtol=1e-3, atol=0)


def test_float16_gradients_that_would_overflow_are_exact():
    cotangent = torch.tensor([[1.0, -0.5]])
    assert not half_gradient(2.0**8, 2, cotangent, scales=(2.0**10,)).isfinite().any()
    torch.testing.assert_close(half_gradient(2.0**8, 2, cotangent), cotangent * 2.0**16, rtol=1e-3, atol=0)


def test_float16_gradients_beyond_every_scale_stay_nonfinite():
    assert not half_gradient(2.0**8, 4, torch.ones(1, 2)).isfinite().any()


def test_float16_scales_are_chosen_per_sample():
    """A sample that overflows does not coarsen its neighbour, which is bit for bit what it is alone."""
    x = torch.ones(2, 2, requires_grad=True)
    factors = torch.tensor([[2.0**8], [2.0**-12]]).half()
    output = (x.half() * factors * factors).float()
    both = scaled_vjp(output, x, torch.ones(2, 2), HALF_PRECISION_LOSS_SCALES)
    torch.testing.assert_close(both, torch.tensor([[2.0**16] * 2, [2.0**-24] * 2]), rtol=0, atol=0)


def test_zero_and_nonfinite_cotangents_pass_through_float16():
    gradient = half_gradient(1.0, 1, torch.tensor([[0.0, 0.0], [math.nan, 1.0], [2.0, 1.0]]))
    assert gradient[0].tolist() == [0.0, 0.0]
    assert gradient[1].isnan().any()
    assert gradient[2].tolist() == [2.0, 1.0]


def test_guidance_without_text_or_model_is_refused():
    plan = plan_guidance([Constant(near=1.0)], [1.0], [True], Quadratic.objectives)
    settings = resolve(Sampling(steps=5), TinyNet(prediction="x0"), Quadratic())
    with pytest.raises(GuidelensError, match="needs encoded prompts"):
        call(GuidedDenoiser(lambda x, t: x * 1, Quadratic(), settings, plan, None), 1)
    with pytest.raises(GuidelensError, match="needs a guidance model"):
        call(GuidedDenoiser(lambda x, t: x * 1, None, settings, plan, TextBatch(("a",))), 1)
