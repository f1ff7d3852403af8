"""The guidance models keep guidelens's contract, and make pictures red."""

import pytest
import torch
from guidelens import Engine, Sampling, UsageError
from guidelens.testing import check_guidance_model
from guidelens_make_it_red import Red, WithRed


class Only:
    """A schedule of one objective."""

    def __init__(self, name):
        self.name = name

    def weights(self, progress):
        return {self.name: 1.0}


def test_the_contract():
    check_guidance_model(Red())


def test_the_contract_of_the_wrapper(guidelens_guidance_model):
    check_guidance_model(WithRed(guidelens_guidance_model))


def test_red_is_the_least_loss():
    colours = torch.tensor([[1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 1.0]])
    pictures = colours[:, :, None, None].expand(3, 3, 4, 4)
    text = Red().encode_text(["x"] * 3)
    assert Red().losses(pictures, text, ["red"])["red"].tolist() == [0.0, 1.0, 4.0]


def test_the_other_objectives_are_left_as_they_are(
    guidelens_guidance_model, guidelens_images, guidelens_prompts
):
    model = WithRed(guidelens_guidance_model)
    text = model.encode_text(guidelens_prompts)
    losses = model.losses(guidelens_images, text, ["itc", "red"])
    alone = guidelens_guidance_model.losses(guidelens_images, text, ["itc"])
    assert set(losses) == {"itc", "red"}
    assert torch.equal(losses["itc"], alone["itc"])


def test_a_model_with_red_is_not_wrapped():
    with pytest.raises(UsageError, match="already"):
        WithRed(Red())


def test_pictures_turn_red(guidelens_generator, guidelens_guidance_model):
    engine = Engine(guidelens_generator, WithRed(guidelens_guidance_model), Sampling(steps=10), device="cpu")
    (free,) = engine.generate("a blue circle", None)
    (steered,) = engine.generate("a blue circle", Only("red"))
    assert steered.image[0].mean() > free.image[0].mean() + 0.2
    assert steered.image[1:].mean() < free.image[1:].mean() - 0.2


def test_they_are_found_by_name(guidelens_plugins):
    plugins = guidelens_plugins("guidelens_make_it_red", "guidelens.testing.tiny")
    assert plugins.build("guidance", "red").objectives == {"red"}
    theirs = [c for c in plugins.components("guidance") if c.factory.__module__ == "guidelens_make_it_red"]
    assert [c.name for c in theirs] == ["red", "with-red"]
