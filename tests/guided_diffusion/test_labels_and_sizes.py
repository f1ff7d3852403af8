"""Class-conditional networks used without a class of the user's, other sizes of pictures, and guesses said aloud."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.guarding import ComponentError
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens.testing import TinyGuidanceModel, check_generator
from guidelens_guided_diffusion import GuidedDiffusionGenerator, UNet, save_generator
from small_unet import SMALL, lively
from torch import Tensor

CLASSES = 7
UNTRAINED = ("denoises",)


class Constant:
    def weights(self, progress: float) -> dict[str, float]:
        return {"itc": 1.0}


@pytest.fixture
def unet() -> UNet:
    return lively(UNet(**SMALL, num_classes=CLASSES))


@pytest.fixture
def saved(tmp_path: Path, unet: UNet) -> Path:
    path = tmp_path / "classes.safetensors"
    flags = {**SMALL, "num_classes": CLASSES}
    save_generator(path, unet, flags, schedule="linear", prediction="epsilon")
    return path


def noisy(*shape: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([10, 500, 900])


def build(spec: str) -> Any:
    return PluginManager.load().resolve("generator", f"guided-diffusion:{spec}").build()


def test_without_a_class_no_embedding_is_added(unet: UNet) -> None:
    generator = GuidedDiffusionGenerator(unet, label="none")
    x, t = noisy(3, 8, 8)
    output = generator(x, t)
    with torch.no_grad():
        unet.label_emb.weight.zero_()
    torch.testing.assert_close(output, unet(x, t, torch.tensor([0, 1, 2])))
    assert "has not met in training" in generator.notes[0]


def test_random_classes_are_each_samples_own(unet: UNet) -> None:
    generator = GuidedDiffusionGenerator(unet, label="random")
    many = generator.conditions(range(2000))
    assert torch.equal(many[[3, 40, 1999]], generator.conditions([3, 40, 1999]))  # whatever the batch
    counts = many.bincount(minlength=CLASSES)
    assert len(counts) == CLASSES
    assert (counts > 2000 / CLASSES * 0.8).all()
    x, t = noisy(3, 8, 8)
    classes = generator.conditions([5, 6, 7])
    torch.testing.assert_close(generator(x, t, classes), unet(x, t, classes))


def test_the_engine_draws_each_picture_with_the_class_of_its_seed(unet: UNet) -> None:
    generator = GuidedDiffusionGenerator(unet, label="random")
    engine = Engine(generator, TinyGuidanceModel(), Sampling(steps=3, scale=0.1), device="cpu")
    classes = generator.conditions([0, 1, 2]).tolist()
    assert len(set(classes)) > 1
    together = list(engine.run([Sample("a", Constant(), seed) for seed in range(3)]))
    engine._micro.limit = 2  # in parts
    parts = list(engine.run([Sample("a", Constant(), seed) for seed in range(3)]))
    for seed, (one, part) in enumerate(zip(together, parts, strict=True)):
        fixed = GuidedDiffusionGenerator(unet, label=classes[seed])
        alone = Engine(fixed, TinyGuidanceModel(), Sampling(steps=3, scale=0.1), device="cpu")
        (expected,) = alone.run([Sample("a", Constant(), seed)])
        torch.testing.assert_close(one.image, expected.image, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.image, expected.image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", ["random", "none"])
def test_they_keep_the_contract(unet: UNet, label: Any) -> None:
    check_generator(GuidedDiffusionGenerator(unet, label=label), skip=UNTRAINED)


def test_labels_by_spelling(saved: Path, unet: UNet) -> None:
    prints = {build(f"checkpoint={saved},label={label}").fingerprint for label in ("random", "none", "3")}
    assert len(prints) == 3
    with pytest.raises(
        UsageError, match=r"to label=6, label=random \(a class for each picture\) or label=none"
    ):
        build(f"checkpoint={saved}")
    with pytest.raises(UsageError, match="unconditional: leave out label=random"):
        GuidedDiffusionGenerator(lively(UNet(**SMALL)), label="random")


def test_conditions_that_break_the_contract_are_named() -> None:
    generator = GuidedDiffusionGenerator(lively(UNet(**SMALL)))
    generator.conditions = lambda seeds: torch.zeros(1)
    engine = Engine(generator, None, Sampling(steps=2), device="cpu")
    with pytest.raises(ComponentError, match=r"conditions\(\) returned the shape \(1,\) for 2 samples"):
        next(engine.stream([Sample("", None, 0), Sample("", None, 1)]))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("size=16", (3, 16, 16)),
        ("width=16", (3, 8, 16)),
        ("height=12,width=16", (3, 12, 16)),
        ("size=8", (3, 8, 8)),
    ],
)
def test_sizes(saved: Path, unet: UNet, options: str, shape: tuple[int, int, int]) -> None:
    generator = build(f"checkpoint={saved},label=2,{options}")
    assert generator.image_shape == shape
    x, t = noisy(*shape)
    torch.testing.assert_close(generator(x, t), unet(x, t, torch.tensor([2, 2, 2])))
    plain = build(f"checkpoint={saved},label=2")
    assert (generator.fingerprint == plain.fingerprint) == (shape == (3, 8, 8))
    engine = Engine(generator, TinyGuidanceModel(), Sampling(steps=2), device="cpu")
    (result,) = engine.run([Sample("a", Constant(), 0)])
    assert result.image.shape == shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=9", "pictures of 9x9 do not fit this network: width and height must be multiples of 2"),
        ("size=16,width=8", "takes size, or width and height, not both"),
        ("height=-2", "multiples of 2"),
    ],
)
def test_sizes_that_do_not_fit(saved: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(f"checkpoint={saved},label=2,{options}")


def test_guesses_are_printed_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = {"image_size": 32, "num_channels": 32, "num_res_blocks": 1, "diffusion_steps": 4000}
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({**script, "attention_resolutions": "8"}))
    spec = f"flags={flags},untrained=true"
    with caplog.at_level(logging.WARNING):
        generator = build(spec)
    assert len(generator.notes) == 2
    assert all(note in caplog.text for note in generator.notes)
    sure = build(f"{spec},rescale_timesteps=false")
    assert len(sure.notes) == 1  # the multipliers
    x, t = noisy(3, 32, 32)
    assert not torch.equal(generator(x, t), sure(x, t))


def test_another_t_with_flags_of_the_constructor(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(SMALL))
    generator = build(f"flags={flags},untrained=true,num_timesteps=4000")
    assert "without rescale_timesteps" in generator.notes[0]
    assert not build(f"flags={flags},untrained=true,num_timesteps=4000,rescale_timesteps=true").notes
