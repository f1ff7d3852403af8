"""The kit on guidance models: good ones pass, and each broken promise fails exactly its own check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.errors import UsageError
from guidelens.testing import ConformanceError, TinyGuidanceModel, check_guidance_model, examine
from guidelens.testing.guidance import CHECKS
from torch import nn

BROKEN: list[tuple[str, Callable[[], Any]]] = []


def breaks(check: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def note(factory: Callable[[], Any]) -> Callable[[], Any]:
        BROKEN.append((check, factory))
        return factory

    return note


class Net(nn.Module):
    """A guidance model that is a module: two objectives on features of a small network."""

    objectives = frozenset({"dot", "far"})
    fingerprint = "net"

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Dropout(0.5))

    def encode_text(self, prompts):
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(len(p))) for p in prompts]
        return TextBatch(tuple(prompts), {"u": torch.stack(rows)})

    def losses(self, images, text, objectives):
        f, u = self.features(images).mean(dim=(2, 3)), text.tensors["u"].to(images)
        known = {"dot": -(f * u).sum(dim=1), "far": (f - u).square().sum(dim=1)}
        return {name: known[name] for name in objectives}


class Changed(TinyGuidanceModel):
    """The tiny model, its losses altered by ``change(value, images, text, objectives, name)``."""

    def change(self, value, images, text, objectives, name):
        return value

    def losses(self, images, text, objectives):
        losses = super().losses(images, text, objectives)
        return {n: self.change(value, images, text, objectives, n) for n, value in losses.items()}


@breaks("objectives")
class ObjectivesAreASet(TinyGuidanceModel):
    objectives = {"itc", "cap"}  # type: ignore[assignment]  # noqa: RUF012


@breaks("objectives")
class NoObjectives(TinyGuidanceModel):
    objectives = frozenset()


@breaks("objectives")
class ObjectivesAreNumbers(TinyGuidanceModel):
    objectives = frozenset({1})  # type: ignore[arg-type]


@breaks("reads")
class ReadsSomethingElse(TinyGuidanceModel):
    reads = "xt"


@breaks("text")
class PromptsReversed(TinyGuidanceModel):
    def encode_text(self, prompts):
        return super().encode_text(prompts[::-1])


@breaks("text")
class TensorWithoutARowPerPrompt(TinyGuidanceModel):
    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        return TextBatch(text.prompts, {**text.tensors, "mean": text.tensors["colour"].mean(0)[:2]})


@breaks("text")
class NotesForNoneButOne(TinyGuidanceModel):
    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        return TextBatch(text.prompts, text.tensors, (("cut",),))


@breaks("text")
class TextIsATensor(TinyGuidanceModel):
    def encode_text(self, prompts):
        return super().encode_text(prompts).tensors["colour"]


@breaks("losses")
class OneLossForTheBatch(Changed):
    def change(self, value, images, text, objectives, name):
        return value.mean()


@breaks("losses")
class MissesAnObjective(Changed):
    def losses(self, images, text, objectives):
        return {k: v for k, v in super().losses(images, text, objectives).items() if k != "itm"}


@breaks("losses")
class NanLoss(Changed):
    def change(self, value, images, text, objectives, name):
        return value / (value - value) if name == "itm" else value


@breaks("losses")
class IntegerLoss(Changed):
    def change(self, value, images, text, objectives, name):
        return value.long()


@breaks("differentiable")
class Detached(Changed):
    def change(self, value, images, text, objectives, name):
        return value.detach() if name == "itm" else value


@breaks("differentiable")
class Rounded(Changed):
    def change(self, value, images, text, objectives, name):
        return value.round() if name == "cap" else value


@breaks("gradient")
class HalfDetached(Changed):
    def change(self, value, images, text, objectives, name):
        return (value + value.detach()) / 2


@breaks("gradient")
class FlippedGradient(Changed):
    def change(self, value, images, text, objectives, name):
        return 2 * value.detach() - value


@breaks("gradient")
class GradientThatIsATenthOfAPercentOff(Changed):
    def change(self, value, images, text, objectives, name):
        return value + 0.001 * (value - value.detach())


@breaks("subsets")
class SharedAmongThoseAsked(Changed):
    def change(self, value, images, text, objectives, name):
        return value / len(objectives)


@breaks("subsets")
class ReturnsAllAlways(TinyGuidanceModel):
    def losses(self, images, text, objectives):
        return super().losses(images, text, sorted(self.objectives))


@breaks("batch-independence")
class LessHalfTheMeanOfTheBatch(Changed):
    def change(self, value, images, text, objectives, name):
        return value - value.mean() / 2


@breaks("batch-independence")
class DividedByTheBatch(Changed):
    def change(self, value, images, text, objectives, name):
        return value / len(value)


@breaks("batch-independence")
class DependsOnThePlace(Changed):
    def change(self, value, images, text, objectives, name):
        return value * (1 + 0.01 * torch.arange(len(value)))


@breaks("batch-independence")
class LeaksGradientToNeighbours(Changed):
    def change(self, value, images, text, objectives, name):
        return value + 0.01 * (value.sum() - value.sum().detach())


@breaks("text-alone")
class CentresTheTextOfABatch(TinyGuidanceModel):
    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        colour = text.tensors["colour"]
        return TextBatch(text.prompts, {"colour": colour - 0.1 * colour.mean(dim=0)})


@breaks("text-select")
class SelectsEachOnce(TinyGuidanceModel):
    def encode_text(self, prompts):
        class Once(TextBatch):
            def select(self, indices):
                return super().select(list(dict.fromkeys(indices)))

        text = super().encode_text(prompts)
        return Once(text.prompts, text.tensors)


@breaks("text-graph")
class EncodesWithAGraph(TinyGuidanceModel):
    def __init__(self) -> None:
        self.gain = nn.Parameter(torch.ones(3))

    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        return TextBatch(text.prompts, {"colour": text.tensors["colour"] * self.gain})


@breaks("determinism")
class Noisy(Changed):
    def change(self, value, images, text, objectives, name):
        return value * (1 + 0.01 * torch.randn(len(value)))


@breaks("determinism")
class Counts(Changed):
    calls = 0

    def change(self, value, images, text, objectives, name):
        self.calls += 1
        return value + self.calls


@breaks("determinism")
class DropoutOutOfReach(Net):
    """A list hides its modules from eval()."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Dropout(0.5)]

    def losses(self, images, text, objectives):
        return super().losses(self.hidden[0](images), text, objectives)


@breaks("determinism")
class DropoutInTrainingMode(Net):
    """Whatever eval() says, once somebody has trained it."""

    trained = False

    def train(self, mode: bool = True):
        self.trained = self.trained or mode
        return super().train(mode)

    def losses(self, images, text, objectives):
        return super().losses(nn.functional.dropout(images, training=self.trained), text, objectives)


@breaks("parameters")
class HoldsATrainableNetwork(TinyGuidanceModel):
    def __init__(self) -> None:
        self.network = nn.Linear(3, 3).eval()


@breaks("parameters")
class HoldsANetworkInTrainingMode(TinyGuidanceModel):
    def __init__(self) -> None:
        self.networks = {"text": nn.Linear(3, 3).requires_grad_(False)}


@breaks("parameters")
class FillsGradients(Net):
    def losses(self, images, text, objectives):
        weight = self.features[0].weight.requires_grad_()
        weight.square().sum().backward()
        return super().losses(images, text, objectives)


@breaks("any-size")
class OneSizeOnly(Changed):
    def change(self, value, images, text, objectives, name):
        return value + 0 * images.reshape(-1, 3 * 32 * 32).sum(dim=1)


@breaks("out-of-range")
class RootOfARange(Changed):
    def change(self, value, images, text, objectives, name):
        return value + (2 - images.square()).sqrt().mean(dim=(1, 2, 3))


@breaks("out-of-range")
class GradientBreaksOutside(Changed):
    """Finite losses, but the backward pass of a where() meets the root of a negative number."""

    def change(self, value, images, text, objectives, name):
        inside = torch.where(images.abs() < 1.2, (1.44 - images.square()).sqrt(), torch.zeros_like(images))
        return value + inside.mean(dim=(1, 2, 3))


@breaks("bf16")
class MixesPrecisions(Changed):
    def change(self, value, images, text, objectives, name):
        rows = images.flatten(1)
        extra = (rows[:, :16] @ torch.eye(16).to(rows)).sum(dim=1) * 0
        return value.index_add(0, torch.arange(len(value)), extra)


@breaks("fingerprint")
class NoFingerprint(TinyGuidanceModel):
    fingerprint = " "


@breaks("fingerprint")
class FingerprintOfTheState(Changed):
    uses = 0

    @property
    def fingerprint(self):
        return f"uses-{self.uses}"

    def change(self, value, images, text, objectives, name):
        self.uses += 1
        return value


@breaks("default-scales")
class ScaleOfNothing(TinyGuidanceModel):
    default_scales = {"itx": 1.0}  # noqa: RUF012


@breaks("default-scales")
class ScaleOfZero(TinyGuidanceModel):
    default_scales = {"itc": 0.0}  # noqa: RUF012


@breaks("default-scales")
class ScaleThatIsNone(TinyGuidanceModel):
    default_scales = {"itc": float("nan")}  # noqa: RUF012


@breaks("default-scales")
class ScalesInAList(TinyGuidanceModel):
    default_scales = [1.0]  # noqa: RUF012


class ReadsNoise(TinyGuidanceModel):
    """A noise-aware model: it is told the timesteps of its images."""

    reads = "x_t"

    def losses(self, images, text, objectives, *, timesteps):
        assert timesteps.shape == images.shape[:1]
        assert timesteps.dtype == torch.int64
        return super().losses(images, text, objectives)


@pytest.mark.parametrize("model", [TinyGuidanceModel, Net, ReadsNoise])
def test_good_models_pass(model: type) -> None:
    report = check_guidance_model(model())
    assert (
        {check.name for check in report.skipped} <= {"any-size"}
        if model is ReadsNoise
        else not report.skipped
    )
    assert report.ok


@pytest.mark.parametrize(("check", "factory"), BROKEN, ids=[f.__name__ for _, f in BROKEN])
def test_a_broken_promise_fails_its_check_alone(check: str, factory: Callable[[], Any]) -> None:
    report = examine("guidance", factory())
    assert [c.name for c in report.failures] == [check], [(c.name, c.detail) for c in report.failures]
    with pytest.raises(ConformanceError, match=rf"(?m)^  {check}: "):
        check_guidance_model(factory())


def test_every_check_can_fail() -> None:
    assert {check for check, _ in BROKEN} == set(CHECKS.about)


def test_what_cannot_run_in_float64_says_so() -> None:
    class Fixed(TinyGuidanceModel):
        weight = torch.eye(3)

        def losses(self, images, text, objectives):
            extra = torch.einsum("bchw,cd->bd", images, self.weight).sum(dim=1) * 0
            return {k: v + extra for k, v in super().losses(images, text, objectives).items()}

    class Single(Changed):
        def change(self, value, images, text, objectives, name):
            return value.float()

    for model, reason in ((Fixed(), "does not run in float64 (RuntimeError"), (Single(), "still float32")):
        report = check_guidance_model(model)
        assert [check.name for check in report.skipped] == ["gradient"]
        assert reason in report["gradient"].detail


def test_a_model_is_given_back_as_it_was() -> None:
    model = Net().train()
    model.features[0].weight.requires_grad_(False)
    before = {name: (t.dtype, t.requires_grad, t.clone()) for name, t in model.named_parameters()}
    check_guidance_model(model)
    for name, tensor in model.named_parameters():
        dtype, wanted, values = before[name]
        assert (tensor.dtype, tensor.requires_grad) == (dtype, wanted)
        assert torch.equal(tensor, values)
    assert all(part.training for part in model.modules())


def test_prompts_and_size_are_used() -> None:
    seen: list[Any] = []

    class Sees(TinyGuidanceModel):
        def losses(self, images, text, objectives):
            seen.append((text.prompts, tuple(images.shape[1:])))
            return super().losses(images, text, objectives)

    check_guidance_model(Sees(), prompts=["one", "two", "three"], image_shape=(3, 12, 20))
    assert (("one", "two", "three"), (3, 12, 20)) in seen
    with pytest.raises(UsageError, match="3 different prompts, not 2"):
        check_guidance_model(Sees(), prompts=["one", "two", "one"])


def test_checks_can_be_left_out() -> None:
    report = check_guidance_model(OneSizeOnly(), skip=["any-size"])
    assert report["any-size"].status == "skipped"
    report = check_guidance_model(TinyGuidanceModel(), skip=["batch-independence"])
    assert report["gradient"].status == "passed"  # although it needs the one left out
    assert [c.name for c in report.skipped] == ["batch-independence"]
    with pytest.raises(UsageError, match="no check 'any_size' to skip; there are objectives"):
        check_guidance_model(TinyGuidanceModel(), skip=["any_size"])
