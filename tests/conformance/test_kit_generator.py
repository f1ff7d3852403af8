"""The kit on generators: good ones pass, and each broken promise fails exactly its own check."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.plugins import PluginManager
from guidelens.testing import ConformanceError, TinyGenerator, check_generator, examine
from guidelens.testing.generator import CHECKS
from guidelens_worlds.shapes.world import random_scene, render_batch
from torch import nn
from toys import GaussianGenerator, TinyNet

BROKEN: list[tuple[str, Callable[[], Any]]] = []
PREDICTIONS = ("epsilon", "x0", "v")


def breaks(check: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def note(factory: Callable[[], Any]) -> Callable[[], Any]:
        BROKEN.append((check, factory))
        return factory

    return note


@breaks("attributes")
class ShapeInAList(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.image_shape = [3, 8, 8]  # type: ignore[assignment]


@breaks("attributes")
class UnknownPrediction(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.prediction = "eps"  # type: ignore[assignment]


@breaks("attributes")
class VarianceIsANumber(TinyGenerator):
    learned_variance = 0  # type: ignore[assignment]


class OtherTable(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.alphas_cumprod = self.table(self.alphas_cumprod)

    def table(self, table):
        raise NotImplementedError


@breaks("alphas-cumprod")
class SinglePrecisionTable(OtherTable):
    def table(self, table):
        return table.float()


@breaks("alphas-cumprod")
class NoisiestFirst(OtherTable):
    def table(self, table):
        return table.flip(0)


@breaks("alphas-cumprod")
class BetasForTheTable(OtherTable):
    def table(self, table):
        return beta_schedule("linear")


@breaks("alphas-cumprod")
class StartsAtOne(OtherTable):
    def table(self, table):
        return torch.cat([torch.ones(1, dtype=torch.float64), table[1:]])


@breaks("alphas-cumprod")
class TableIsAList(OtherTable):
    def table(self, table):
        return table.tolist()


class Changed(TinyGenerator):
    """The tiny generator, its output altered by ``change(output, x_t, timesteps)``."""

    def change(self, output, x_t, timesteps):
        raise NotImplementedError

    def __call__(self, x_t, timesteps):
        return self.change(super().__call__(x_t, timesteps), x_t, timesteps)


@breaks("output")
class NoVarianceAfterAll(TinyGenerator):
    learned_variance = True


@breaks("output")
class VarianceUnannounced(Changed):
    def change(self, output, x_t, timesteps):
        return torch.cat([output, output], dim=1)


@breaks("output")
class NanAtTheNoisiest(Changed):
    def change(self, output, x_t, timesteps):
        return output / (timesteps < 999).reshape(-1, 1, 1, 1)


@breaks("output")
class WrapsTheOutput(Changed):
    def change(self, output, x_t, timesteps):
        return (output,)


@breaks("differentiable")
class Detached(Changed):
    def change(self, output, x_t, timesteps):
        return output.detach()


@breaks("differentiable")
class ConstantInX(TinyGenerator):
    """The optimal denoiser of pictures that are all gray."""

    def __init__(self) -> None:
        super().__init__(prediction="x0")

    def __call__(self, x_t, timesteps):
        return 0 * x_t


@breaks("gradient")
class HalfDetached(Changed):
    def change(self, output, x_t, timesteps):
        return (output + output.detach()) / 2


@breaks("gradient")
class GradientThatIsATenthOfAPercentOff(Changed):
    def change(self, output, x_t, timesteps):
        return output + 0.001 * (output - output.detach())


@breaks("determinism")
class Noisy(Changed):
    def change(self, output, x_t, timesteps):
        return output + 0.01 * torch.randn_like(output)


@breaks("determinism")
class DropoutInTrainingMode(nn.Module, TinyGenerator):
    """Whatever eval() says, once somebody has trained it."""

    trained = False

    def __init__(self) -> None:
        nn.Module.__init__(self)
        TinyGenerator.__init__(self)

    def train(self, mode: bool = True):
        self.trained = self.trained or mode
        return super().train(mode)

    def __call__(self, x_t, timesteps):
        return TinyGenerator.__call__(self, nn.functional.dropout(x_t, 0.1, self.trained), timesteps)


@breaks("batch-independence")
class FirstTimestepForAll(TinyGenerator):
    def __call__(self, x_t, timesteps):
        return super().__call__(x_t, timesteps[:1].expand(len(x_t)))


@breaks("batch-independence")
class LessTheMeanOfTheBatch(Changed):
    def change(self, output, x_t, timesteps):
        return output - 0.01 * output.mean(dim=0)


@breaks("batch-independence")
class LeaksGradientToNeighbours(Changed):
    def change(self, output, x_t, timesteps):
        return output + 0.01 * (output.mean(dim=0) - output.mean(dim=0).detach())


@breaks("parameters")
class HoldsATrainableNetwork(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(2, 2).eval()


@breaks("checkpointing")
class OtherNumbersWithLessMemory(Changed):
    factor = 1.0

    def checkpointing(self, enabled):
        self.factor = 1.001 if enabled else 1.0

    def change(self, output, x_t, timesteps):
        return self.factor * output


def mislabelled(true: str, said: str) -> Callable[[], Any]:
    class Mislabelled(TinyGenerator):
        def __init__(self) -> None:
            super().__init__(prediction=true, mean=-0.3, std=0.4)  # type: ignore[arg-type]
            self.said = False

        @property
        def prediction(self):
            return said if self.asked_by_others else true

        @prediction.setter
        def prediction(self, value):
            self.asked_by_others = True

        def __call__(self, x_t, timesteps):
            self.asked_by_others = False
            try:
                return super().__call__(x_t, timesteps)
            finally:
                self.asked_by_others = True

    Mislabelled.__name__ = f"{true}CalledWhatIs{said}"
    return Mislabelled


for _true in PREDICTIONS:
    for _said in PREDICTIONS:
        if _true != _said:
            breaks("denoises")(mislabelled(_true, _said))


@breaks("denoises")
class TimeReversed(TinyGenerator):
    def __call__(self, x_t, timesteps):
        return super().__call__(x_t, 999 - timesteps)


@breaks("denoises")
class TimeInUnitInterval(TinyGenerator):
    def __call__(self, x_t, timesteps):
        return super().__call__(x_t, timesteps // 1000)


class LeavesNoise(TinyGenerator):
    """Off by less than the naive answers are, but for the noise that it adds to its x0 (or takes from it)."""

    share = 0.0

    def __init__(self) -> None:
        super().__init__(prediction="x0", mean=0.5, std=0.3)

    def __call__(self, x_t, timesteps):
        abar = self.alphas_cumprod[timesteps].to(x_t).reshape(-1, 1, 1, 1)
        noise = x_t - abar.sqrt() * self.mean
        return super().__call__(x_t, timesteps) + self.share * (1 - abar) * noise


@breaks("denoises")
class LeavesTooMuchNoise(LeavesNoise):
    share = 0.35


@breaks("denoises")
class LeavesLessThanNone(LeavesNoise):
    share = -0.3


@breaks("denoises")
class SignOfTheNoise(Changed):
    def change(self, output, x_t, timesteps):
        return -output


@breaks("batch-independence")
class ConditionsOfTheBatch(TinyGenerator):
    def conditions(self, seeds):
        return torch.arange(len(seeds))

    def __call__(self, x_t, timesteps, conditions=None):
        return super().__call__(x_t, timesteps)


@breaks("decode")
class DecodesToOtherPictures(TinyGenerator):
    picture_shape = (3, 16, 16)

    def decode(self, latents):
        return latents * 1


@breaks("bf16")
class MixesPrecisions(Changed):
    def change(self, output, x_t, timesteps):
        rows = output.flatten(1)
        extra = rows @ torch.eye(rows.shape[1]).to(rows)
        return rows.index_add(0, torch.arange(len(rows)), 0 * extra).reshape(output.shape)


@breaks("fingerprint")
class NoFingerprint(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        del self.fingerprint


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("mu", "sigma"), [(0.2, 0.5), (0.0, 0.1), (-0.5, 0.3)])
def test_exact_denoisers_pass(prediction: Any, schedule: str, mu: float, sigma: float) -> None:
    generator = GaussianGenerator(mu, sigma, prediction=prediction, schedule=schedule)
    report = check_generator(generator)
    assert [check.name for check in report.skipped] == ["decode", "checkpointing"]
    images = mu + sigma * torch.randn(64, *generator.image_shape, generator=torch.Generator().manual_seed(0))
    assert check_generator(generator, images=images)["denoises"].numbers["worst error"] <= 1.0


def test_a_learned_variance_is_left_aside() -> None:
    assert check_generator(GaussianGenerator(interpolation=0.3)).ok


def test_a_module_in_training_mode_passes_but_for_its_training() -> None:
    report = examine("generator", TinyNet(prediction="epsilon").train())
    assert [check.name for check in report.failures] == ["denoises"]
    assert "is it trained" in report["denoises"].detail


@pytest.mark.parametrize(("check", "factory"), BROKEN, ids=[f.__name__ for _, f in BROKEN])
def test_a_broken_promise_fails_its_check_alone(check: str, factory: Callable[[], Any]) -> None:
    report = examine("generator", factory())
    assert [c.name for c in report.failures] == [check], [(c.name, c.detail) for c in report.failures]
    with pytest.raises(ConformanceError, match=rf"(?m)^  {check}: "):
        check_generator(factory())


def test_every_check_can_fail() -> None:
    assert {check for check, _ in BROKEN} == set(CHECKS.about)


@pytest.mark.parametrize(("true", "said"), [(a, b) for a in PREDICTIONS for b in PREDICTIONS if a != b])
def test_the_prediction_that_would_fit_is_named(true: str, said: str) -> None:
    detail = examine("generator", mislabelled(true, said)())["denoises"].detail
    assert detail.startswith(f"as {said!r}: at sigma ")
    assert detail.endswith(f"taken for {true!r} it would denoise")


def test_noise_that_is_left_is_told_in_numbers() -> None:
    much = examine("generator", LeavesTooMuchNoise())["denoises"].detail
    assert re.search(r"its x0 contains 0\.\d\d times the noise; at most 0\.\d\d is allowed", much)
    less = examine("generator", LeavesLessThanNone())["denoises"].detail
    assert re.search(r"its x0 contains -0\.\d\d times the noise, and it cannot be negative", less)


@pytest.mark.parametrize("table", ["linear", "cosine"])
def test_another_noise_schedule_is_noticed(table: str) -> None:
    """A network trained with one table and sampled with the other."""
    trained = GaussianGenerator(0.1, 0.3, schedule="cosine" if table == "linear" else "linear")
    sampled = GaussianGenerator(0.1, 0.3, schedule=table)

    class Mistaken(TinyGenerator):
        def __init__(self) -> None:
            super().__init__()
            self.image_shape = sampled.image_shape
            self.alphas_cumprod = alphas_cumprod_of(beta_schedule(table))  # type: ignore[arg-type]

        def __call__(self, x_t, timesteps):
            return trained(x_t, timesteps)

    assert [c.name for c in examine("generator", Mistaken()).failures] == ["denoises"]


class PixelsFrom0To1(TinyGenerator):
    """Trained on pixels in [0, 1], and shown [-1, 1]: x0 = 2 y0 - 1 is not what it denoises to."""

    def __init__(self) -> None:
        super().__init__(prediction="x0", mean=0.7, std=0.2)

    def __call__(self, x_t, timesteps):
        return (super().__call__(x_t, timesteps) + 1) / 2


def test_pictures_of_its_domain_tell_more_than_its_own_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.4 * torch.randn(64, 3, 8, 8, generator=generator)
    assert check_generator(PixelsFrom0To1()).ok
    report = examine("generator", PixelsFrom0To1(), images=images)
    assert [c.name for c in report.failures] == ["denoises"]


@pytest.mark.slow
def test_the_shipped_network_with_shifted_timesteps() -> None:
    network = PluginManager.load().build("generator", "shapes")

    class Shifted(TinyGenerator):
        def __init__(self) -> None:
            self.image_shape, self.prediction = network.image_shape, network.prediction
            self.alphas_cumprod, self.fingerprint = network.alphas_cumprod, "shifted"

        def __call__(self, x_t, timesteps):
            return network(x_t, (timesteps + 40).clamp(0, 999))

    names = ("attributes", "alphas-cumprod", "output", "denoises")
    skip = [name for name in CHECKS.about if name not in names]
    images = torch.from_numpy(render_batch([random_scene(random.Random(seed)) for seed in range(2)]))
    assert check_generator(network, images=images, skip=skip).ok
    assert [c.name for c in examine("generator", Shifted(), skip=skip).failures] == ["denoises"]
