"""BLIP's losses: held to finite differences, and to independence between samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from guidelens.contracts import GuidanceModel, TextBatch
from guidelens.errors import UsageError
from guidelens_blip import BlipGuidance, BlipOptions
from torch.testing import assert_close

OBJECTIVES = ("itc", "itm", "cap")
EVERY_LOSS = {
    "itc": ("itc", BlipOptions()),
    "itc-learned": ("itc", BlipOptions(temperature="learned")),
    "itc-infonce": (
        "itc",
        BlipOptions(itc_mode="infonce", temperature=0.5, negatives=("a blue square", "green")),
    ),
    "itm": ("itm", BlipOptions()),
    "itm-margin": ("itm", BlipOptions(itm_mode="margin")),
    "cap": ("cap", BlipOptions()),
    "cap-smooth": ("cap", BlipOptions(label_smoothing=0.1)),
}


def test_the_model_is_a_guidance_model(blip: BlipGuidance) -> None:
    assert isinstance(blip, GuidanceModel)
    assert blip.objectives == set(OBJECTIVES)
    assert not blip.model.training
    assert not any(parameter.requires_grad for parameter in blip.model.parameters())


def test_infonce_is_cross_entropy_against_the_negatives(model, config, images) -> None:
    negatives = ("blue square", "a green triangle", "red")
    blip = BlipGuidance(
        model, config, BlipOptions(itc_mode="infonce", temperature=0.3, negatives=(*negatives, "red"))
    )
    text = blip.encode_text(["a red circle", "blue square", "large"])
    candidates = blip.encode_text(["a red circle", "blue square", "large", *negatives])
    logits = blip.similarity(images, candidates) / 0.3
    rows = [
        [0, 3, 4, 5],
        [1, 4, 5],
        [2, 3, 4, 5],
    ]  # the second prompt is one of the negatives: left out there
    expected = torch.stack(
        [-logits[i, row].log_softmax(dim=0)[0] for i, row in enumerate(rows)],
    )
    assert_close(blip.losses(images, text, ["itc"])["itc"], expected)


def test_infonce_refuses_a_prompt_that_is_its_only_negative(model, config) -> None:
    blip = BlipGuidance(model, config, BlipOptions(itc_mode="infonce", negatives=("red",)))
    with pytest.raises(UsageError, match="every negative equals the prompt 'red'"):
        blip.encode_text(["red"])


@pytest.mark.parametrize("size", [(16, 16), (24, 20)], ids=["same-size", "resized"])
@pytest.mark.parametrize("case", EVERY_LOSS)
def test_image_gradients_are_finite_differences(model, config, prompts, case: str, size) -> None:
    name, options = EVERY_LOSS[case]
    blip = BlipGuidance(model, config, options).to(dtype=torch.float64)
    text = blip.encode_text(prompts)
    generator = torch.Generator().manual_seed(1)
    images = (torch.rand(3, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
    loss = blip.losses(images, text, [name])[name]
    assert loss.dtype == torch.float64
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert gradient.flatten(1).norm(dim=1).min() > 1e-3
    for _ in range(3):
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 * direction
        with torch.no_grad():
            ahead = blip.losses(images + step, text, [name])[name]
            behind = blip.losses(images - step, text, [name])[name]
        slope = (gradient * direction).flatten(1).sum(dim=1)  # per sample: no sample reaches into another
        assert_close((ahead - behind) / 2e-5, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", EVERY_LOSS)
def test_a_sample_does_not_depend_on_its_neighbours(model, config, images, prompts, case: str) -> None:
    name, options = EVERY_LOSS[case]
    blip = BlipGuidance(model, config, options)
    together = blip.losses(images, blip.encode_text(prompts), [name])[name]
    assert together.shape == (3,)
    for i, prompt in enumerate(prompts):
        alone = blip.losses(images[i : i + 1], blip.encode_text([prompt]), [name])[name]
        assert_close(alone, together[i : i + 1])
    order = [2, 0, 1, 0]
    shuffled = blip.losses(images[order], blip.encode_text(prompts).select(order), [name])[name]
    assert_close(shuffled, together[order])


def test_what_stands_in_the_padding_does_not_matter(blip, images, prompts) -> None:
    text = blip.encode_text(prompts)
    rubbish = {
        name: torch.where(text.tensors["mask"].bool(), text.tensors[name], 9)
        for name in ("itm_ids", "cap_ids")
    }
    assert not torch.equal(rubbish["cap_ids"], text.tensors["cap_ids"])
    other = TextBatch(text.prompts, {**text.tensors, **rubbish}, text.notes)
    assert_close(blip.losses(images, other, OBJECTIVES), blip.losses(images, text, OBJECTIVES))


def test_only_what_is_asked_for_is_computed_and_the_image_is_encoded_once(blip, images, prompts) -> None:
    calls = {"image": 0, "text": 0, "decoder": 0}

    def count(name: str):
        return lambda *_: calls.update({name: calls[name] + 1})

    text = blip.encode_text(prompts)
    blip.model.visual_encoder.register_forward_hook(count("image"))
    blip.model.text_encoder.register_forward_hook(count("text"))
    blip.model.text_decoder.register_forward_hook(count("decoder"))
    assert set(blip.losses(images, text, OBJECTIVES)) == set(OBJECTIVES)
    assert calls == {"image": 1, "text": 1, "decoder": 1}
    assert set(blip.losses(images, text, {"itc"})) == {"itc"}
    assert calls == {"image": 2, "text": 1, "decoder": 1}
    assert set(blip.losses(images, text, ["cap"])) == {"cap"}
    assert calls == {"image": 3, "text": 1, "decoder": 2}
    assert blip.losses(images, text, []) == {}
    assert calls["image"] == 3


def test_no_gradient_reaches_the_parameters(blip, images, prompts) -> None:
    images.requires_grad_()
    sum(loss.sum() for loss in blip.losses(images, blip.encode_text(prompts), OBJECTIVES).values()).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in blip.model.parameters())


def test_images_of_other_sizes_are_resized_and_normalised(blip, images, prompts) -> None:
    seen: list[torch.Tensor] = []
    blip.model.visual_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    text = blip.encode_text(prompts)
    larger = F.interpolate(images, size=(40, 24), mode="nearest")
    blip.losses(larger, text, ["itc"])
    blip.losses(torch.ones(3, 3, 16, 16), text, ["itc"])
    assert seen[0].shape == (3, 3, 16, 16)
    mean, std = torch.tensor(blip.config.image_mean), torch.tensor(blip.config.image_std)
    assert_close(seen[1][0, :, 5, 5], (1 - mean) / std)


@pytest.mark.parametrize("way", ["autocast", "cast"])
def test_bfloat16_is_close_and_gives_float32_losses(blip, images, prompts, way: str) -> None:
    exact = blip.losses(images, blip.encode_text(prompts), OBJECTIVES)
    images.requires_grad_()
    if way == "cast":
        blip.to(dtype=torch.bfloat16)
        losses = blip.losses(images, blip.encode_text(prompts), OBJECTIVES)
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = blip.losses(images, blip.encode_text(prompts), OBJECTIVES)
    sum(loss.sum() for loss in losses.values()).backward()
    assert torch.isfinite(images.grad).all()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert_close(loss, exact[name], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16])
def test_weights_kept_in_half_precision(blip, images, prompts, weights: torch.dtype) -> None:
    """They take half the memory, and stay so when the engine asks for float32."""
    exact = blip.losses(images, blip.encode_text(prompts), OBJECTIVES)
    stored = sum(parameter.nbytes for parameter in blip.model.parameters())
    before = blip.fingerprint
    half = BlipGuidance(blip.model, blip.config, weights=weights)
    assert half.to("cpu", torch.float32).dtype == weights
    parameters = list(half.model.parameters())
    assert {parameter.dtype for parameter in parameters} == {weights}
    assert sum(parameter.nbytes for parameter in parameters) * 2 == stored
    assert half.fingerprint != before
    images.requires_grad_()
    losses = half.losses(images, half.encode_text(prompts), OBJECTIVES)
    for name, loss in losses.items():
        assert_close(loss, exact[name], rtol=0.1, atol=0.1)
    sum(loss.sum() for loss in losses.values()).backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert half.to(dtype=torch.float64).dtype == torch.float64  # as the conformance kit asks


def test_text_encoded_before_a_move_still_works(blip, images, prompts) -> None:
    text = blip.encode_text(prompts)
    exact = blip.losses(images, text, OBJECTIVES)
    moved = blip.to(dtype=torch.float64).losses(images, text, OBJECTIVES)
    for name in OBJECTIVES:
        assert_close(moved[name].float(), exact[name], rtol=1e-4, atol=1e-4)


def test_bad_requests_are_named(blip, images, prompts) -> None:
    text = blip.encode_text(prompts)
    with pytest.raises(UsageError, match=r"no objective 'clip'; it has cap, itc, itm"):
        blip.losses(images, text, ["itc", "clip"])
    with pytest.raises(UsageError, match=r"\(3, 1, 16, 16\)"):
        blip.losses(images[:, :1], text, ["itc"])
    with pytest.raises(ValueError, match="2 images but 3 prompts"):
        blip.losses(images[:2], text, ["itc"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"itc_mode": "clip"}, "cosine or infonce"),
        ({"itm_mode": "bce"}, "nll or margin"),
        ({"temperature": 0.0}, "positive number"),
        ({"temperature": "warm"}, "positive number"),
        ({"label_smoothing": 1.0}, r"\[0, 1\)"),
        ({"itc_mode": "infonce"}, "needs negatives"),
        ({"negatives": ("red",)}, "cosine does not use them"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BlipOptions(**options)


def test_the_fingerprint_tells_weights_and_options_apart(model, config, vocab: Path) -> None:
    first = BlipGuidance(model, config).fingerprint
    assert BlipGuidance(model, config).to(dtype=torch.bfloat16).fingerprint == first
    model.float()
    assert BlipGuidance(model, config, BlipOptions(itm_mode="margin")).fingerprint != first
    with torch.no_grad():
        model.itm_head.bias[0] += 1
    assert BlipGuidance(model, config).fingerprint != first


def test_default_scales_can_be_set(model, config) -> None:
    blip = BlipGuidance(model, config, default_scales={"itc": 300.0})
    blip.default_scales["cap"] = 150.0
    assert blip.default_scales == {"itc": 300.0, "cap": 150.0}


def test_captions_are_greedy_and_end_at_sep(blip, images) -> None:
    """Against decoding one image at a time, without a cache, from the full forward pass."""
    wordpiece = blip.model.wordpiece
    with torch.no_grad():
        blip.model.text_decoder.cls["predictions"].bias[wordpiece.sep] += SEP_BIAS
    expected, lengths = [], set()
    for image in images:
        ids = [wordpiece.dec]
        with torch.no_grad():
            patches = blip._patches(image[None])
            while len(ids) < blip.config.max_txt_len and ids[-1] != wordpiece.sep:
                logits = blip.model.token_logits(torch.tensor([ids]), None, patches)
                ids.append(int(logits[0, -1].argmax()))
        lengths.add(len(ids))
        expected.append(wordpiece.decode(ids))
    assert len(lengths) > 1, "the samples should end at different lengths for this test to mean something"
    assert blip.caption(images) == expected


SEP_BIAS = 3.0
"""Makes the random decoder end its sentences at different lengths."""


def test_all_losses_are_those_of_every_pair_and_encode_each_image_once(blip: BlipGuidance) -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    text = blip.encode_text(["a red circle", "a large blue square above"])
    encoded: list[int] = []
    handle = blip.model.visual_encoder.register_forward_hook(lambda _, args, __: encoded.append(len(args[0])))
    together = blip.all_losses(images, text)
    handle.remove()
    assert encoded == [3]
    for row in range(3):
        for column in range(2):
            alone = blip.losses(images[[row]], text.select([column]), blip.objectives)
            for name in blip.objectives:
                torch.testing.assert_close(together[name][row, column], alone[name][0].detach())
