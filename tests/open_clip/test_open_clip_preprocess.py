"""Preprocessing: held to open_clip's own transform of 8-bit pictures, and differentiable all the way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from guidelens.errors import GuidelensError
from guidelens_open_clip import OpenClipGuidance, Preprocess
from PIL import Image
from small_models import open_clip
from torch.testing import assert_close

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "demo.webp"


def picture(width: int, height: int) -> Image.Image:
    """A piece of a real picture: text, flat colours and edges, the hardest case for resampling.

    Its contrast is halved, so that nothing overshoots the 8 bits: there Pillow clamps, and we do not.
    """
    piece = Image.open(PICTURE).convert("RGB").crop((40, 30, 40 + width, 30 + height))
    return piece.point(lambda value: 64 + value // 2)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(256, 256, 96), (301, 200, 64), (200, 301, 64), (60, 45, 112), (224, 224, 224), (90, 90, (40, 56))],
    ids=["down", "wide", "tall", "up", "same", "not-square"],
)
def test_it_is_open_clips_transform(width: int, height: int, size, mode: str, interpolation: str) -> None:
    image = picture(width, height)
    assert np.array(image).std() > 8
    if mode == "shortest" and not isinstance(size, int):
        interpolation = "bicubic"  # what open_clip takes there, whatever it is asked for
    theirs = open_clip.image_transform(
        size,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=mode,
        interpolation=interpolation,
        fill_color=200,
    )(image)
    ours = Preprocess.from_config(
        {
            "size": size,
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "resize_mode": mode,
            "interpolation": interpolation,
            "fill_color": 200,
        }
    )(as_tensor(image))[0]
    assert ours.shape == theirs.shape
    # Theirs rounds to 8 bits twice, once per direction.
    assert_close(ours, theirs, rtol=0, atol=1.51 / 255)
    assert float((ours - theirs).abs().mean()) < 0.4 / 255


def test_normalisation_is_exact() -> None:
    image = picture(64, 64)
    theirs = open_clip.image_transform(
        64, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )(image)
    assert_close(Preprocess(size=(64, 64))(as_tensor(image))[0], theirs, rtol=1e-5, atol=1e-5)


def test_the_models_own_preprocessing_is_taken(models, tokenizers) -> None:
    guidance = OpenClipGuidance(models["clip"], tokenizers["clip"])
    assert guidance.preprocess == Preprocess(size=(32, 32), mean=(0.4, 0.5, 0.6), std=(0.3, 0.25, 0.2))
    image = picture(100, 100)
    theirs = open_clip.image_transform(32, is_train=False, mean=(0.4, 0.5, 0.6), std=(0.3, 0.25, 0.2))(image)
    with torch.no_grad():
        expected = models["clip"].encode_image(theirs[None], normalize=True)
        seen = guidance.similarity(as_tensor(image), guidance.encode_text(["a red circle"]))
        text = models["clip"].encode_text(tokenizers["clip"](["a red circle"]), normalize=True)
    assert_close(seen, expected @ text.T, rtol=0, atol=0.01)


def test_gradients_reach_every_pixel_even_outside_the_range() -> None:
    images = (torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0)) * 6 - 3).requires_grad_()
    Preprocess(size=(24, 24))(images).square().sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().amin()) > 0


def test_configurations_are_read() -> None:
    assert Preprocess.from_config({}) == Preprocess()
    assert Preprocess.from_config({"size": [32, 48], "mean": 0.5, "interpolation": "random", "url": "x"}) == (
        Preprocess(size=(32, 48), mean=(0.5, 0.5, 0.5))
    )
    with pytest.raises(GuidelensError, match="resize_mode 'stretch'; choose shortest, longest, squash"):
        Preprocess.from_config({"resize_mode": "stretch"})
    with pytest.raises(GuidelensError, match="interpolation 'nearest'; choose bicubic, bilinear"):
        Preprocess.from_config({"interpolation": "nearest"})
    with pytest.raises(GuidelensError, match="cannot read the preprocessing"):
        Preprocess.from_config({"size": 3.5})


def test_antialiasing_is_on() -> None:
    """A fine chequerboard shrunk by four is grey; without antialiasing it would be black or white."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    seen = Preprocess(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)(board.expand(1, 3, 64, 64))
    assert math.isclose(float(seen.min()), 0.5, abs_tol=0.02)
    assert math.isclose(float(seen.max()), 0.5, abs_tol=0.02)
