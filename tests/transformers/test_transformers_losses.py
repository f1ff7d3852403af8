"""Losses of ``hf`` against the models' own forward passes, fed by their own processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens_transformers import ObjectiveOptions, TransformersGuidance, load_guidance
from torch.testing import assert_close

PROMPTS = ["a red circle", "two dogs left of a very large blue car", "cat"]
INSTRUCTION = ObjectiveOptions().caption

Folder = Callable[[str], Path]


@pytest.fixture
def images() -> torch.Tensor:
    """Pictures of 8-bit values and of the models' size, so that nothing is rounded or resized."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, 32, 32), generator=generator).float() / 127.5 - 1


def shown(images: torch.Tensor) -> list[Any]:
    return list(((images + 1) * 127.5).round().to(torch.uint8))


def losses_of(model: TransformersGuidance, images: torch.Tensor) -> dict[str, torch.Tensor]:
    return model.losses(images, model.encode_text(PROMPTS), model.objectives)


@torch.no_grad()
def test_itc_is_minus_the_cosine_of_clip(folder_of: Folder, images: torch.Tensor) -> None:
    model = load_guidance(folder_of("clip"))
    inputs = model.network.processor(text=PROMPTS, images=shown(images), padding=True, return_tensors="pt")
    output = model.network.model(**inputs)
    cosine = (output.image_embeds * output.text_embeds).sum(-1)
    assert_close(losses_of(model, images)["itc"], -cosine, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_learned_temperature(folder_of: Folder, images: torch.Tensor) -> None:
    plain = load_guidance(folder_of("clip"))
    learned = load_guidance(folder_of("clip"), ObjectiveOptions(temperature="learned"))
    scale = plain.network.model.logit_scale.exp()
    assert_close(losses_of(learned, images)["itc"], losses_of(plain, images)["itc"] * scale)
    assert learned.fingerprint != plain.fingerprint


@torch.no_grad()
def test_itc_and_itm_of_blip(folder_of: Folder, images: torch.Tensor) -> None:
    model = load_guidance(folder_of("blip-retrieval"))
    found = losses_of(model, images)
    network = model.network.model
    inputs = model.network.processor(text=PROMPTS, images=shown(images), padding=True, return_tensors="pt")
    cosines = network(**inputs, use_itm_head=False).itm_score
    assert_close(found["itc"], -cosines.diagonal(), rtol=1e-5, atol=1e-6)
    inputs["input_ids"][:, 0] = model.network.tokenizer.get_vocab()["[ENC]"]
    logits = network(**inputs, use_itm_head=True).itm_score
    assert_close(found["itm"], -logits.log_softmax(-1)[:, 1], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_cap_of_blip(folder_of: Folder, images: torch.Tensor) -> None:
    model = load_guidance(folder_of("blip-captioning"))
    found = losses_of(model, images)["cap"]
    for row, prompt in enumerate(PROMPTS):
        inputs = model.network.processor(
            text=prompt, images=shown(images[row : row + 1]), return_tensors="pt"
        )
        ids = inputs["input_ids"]
        ids[:, 0] = model.network.tokenizer.get_vocab()["[DEC]"]
        logits = model.network.model(**inputs).logits[:, :-1]
        nll = -logits.log_softmax(-1).gather(2, ids[:, 1:, None]).mean()
        assert_close(found[row], nll, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_cap_of_a_model_that_answers_is_its_own_training_loss(
    folder_of: Folder, images: torch.Tensor
) -> None:
    """The whole conversation through the processor's own template, one sample at a time."""
    model = load_guidance(folder_of("llava"))
    processor = model.network.processor
    found = losses_of(model, images)["cap"]
    for row, prompt in enumerate(PROMPTS):
        head = f"USER: <image>\n{INSTRUCTION} ASSISTANT:"
        one = {"images": shown(images[row : row + 1]), "return_tensors": "pt"}
        before = processor(text=[head], **one)["input_ids"].shape[1]
        inputs = processor(text=[f"{head} {prompt}"], **one)
        labels = inputs["input_ids"].clone()
        labels[:, :before] = -100
        assert_close(found[row], model.network.model(**inputs, labels=labels).loss, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_vqa_is_the_negative_log_likelihood_of_yes(folder_of: Folder, images: torch.Tensor) -> None:
    """Of `` Yes``, four tokens here; of the pair of yes and no it is a softmax over both."""
    model = load_guidance(folder_of("llava"))
    pair = load_guidance(folder_of("llava"), ObjectiveOptions(no="No"))
    processor = model.network.processor
    likelihood = {}
    for answer in (" Yes", " No"):
        head = f'USER: <image>\nDoes this picture show "{PROMPTS[0]}"? Please answer yes or no. ASSISTANT:'
        one = {"images": shown(images[:1]), "return_tensors": "pt"}
        before = processor(text=[head], **one)["input_ids"].shape[1]
        inputs = processor(text=[head + answer], **one)
        logits = model.network.model(**inputs).logits[0, before - 1 : -1].log_softmax(-1)
        likelihood[answer] = logits.gather(1, inputs["input_ids"][0, before:, None]).sum()
    assert_close(losses_of(model, images)["vqa"][0], -likelihood[" Yes"], rtol=1e-5, atol=1e-5)
    both = torch.stack([likelihood[" Yes"], likelihood[" No"]]).log_softmax(0)
    assert_close(losses_of(pair, images)["vqa"][0], -both[0], rtol=1e-4, atol=1e-5)


def test_a_question_is_asked_as_it_is(folder_of: Folder) -> None:
    options = ObjectiveOptions()
    assert options.asked("a dog") == 'Does this picture show "a dog"? Please answer yes or no.'
    assert options.asked("Is the dog red?") == "Is the dog red? Please answer yes or no."


@torch.no_grad()
def test_preprocessing_is_the_processors(folder_of: Folder) -> None:
    """Of a larger picture that is not square, up to the rounding of 8-bit pictures."""
    model = load_guidance(folder_of("clip"))
    pictures = torch.randint(60, 190, (2, 3, 48, 70), generator=torch.Generator().manual_seed(2)).float()
    ours = model.network.pixels(pictures / 127.5 - 1)["pixel_values"]
    theirs = model.network.processor(images=list(pictures.to(torch.uint8)), return_tensors="pt")
    assert_close(ours, theirs["pixel_values"], rtol=0, atol=0.02)
