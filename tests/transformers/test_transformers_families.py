"""Every family keeps the contract of guidance models: the conformance kit on a tiny random model of each.

The table of families in docs/photographs.md holds what these tests find.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.testing import check_guidance_model
from guidelens_transformers import ObjectiveOptions, load_guidance
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("transformers")

from tiny_families import FAMILIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "photographs.md"
ANSWERING = ("llava", "paligemma", "gemma3", "qwen2.5-vl", "idefics3", "smolvlm")
PROMPTS = ["a red circle", "two dogs left of a very large blue car", "cat"]

Folder = Callable[[str], Path]


def load(folder_of: Folder, family: str) -> Any:
    return load_guidance(folder_of(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_family_conforms_and_is_in_the_table(family: str, folder_of: Folder) -> None:
    model = load(folder_of, family)
    report = check_guidance_model(model)
    assert not report.skipped
    objectives = ", ".join(f"`{name}`" for name in sorted(model.objectives))
    row = f"| `{type(model.network.model).__name__}` | {objectives} | {len(report.checks)} of {len(report.checks)} |"
    assert row in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_alone_and_in_a_batch(family: str, folder_of: Folder) -> None:
    model = load(folder_of, family)
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(3)) * 2 - 1
    text = model.encode_text(PROMPTS)

    def gradients(rows: list[int]) -> torch.Tensor:
        shown = images[rows].clone().requires_grad_()
        losses = model.losses(shown, text.select(rows), model.objectives)
        (found,) = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), shown)
        return found

    together = gradients([0, 1, 2])
    alone = torch.cat([gradients([row]) for row in range(3)])
    assert together.abs().sum() > 0
    assert_close(together, alone, rtol=0, atol=3e-7)


@torch.no_grad()
@pytest.mark.parametrize("family", ANSWERING)
def test_a_token_sees_the_question_and_what_precedes_it_only(family: str, folder_of: Folder) -> None:
    """Sum of token losses: another last letter changes the last terms (the letter and the end), no earlier one."""
    model = load(folder_of, family)
    images = torch.rand(1, 3, 32, 32) * 2 - 1

    def per_token(prompt: str) -> torch.Tensor:
        text = model.encode_text([prompt])
        start, end = text.tensors["cap_span"][0].tolist()
        found = []
        for stop in range(start + 1, end + 1):  # the loss of a growing part of the answer
            tensors = {**text.tensors, "cap_span": torch.tensor([[start, stop]])}
            loss = model.losses(images, TextBatch((prompt,), tensors), ["cap"])["cap"]
            found.append(loss * (stop - start))
        return torch.cat(found)

    ends, differs = per_token("a red ball"), per_token("a red bale")
    letters = len("a red bal") - 1
    assert_close(ends[:letters], differs[:letters], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ends[-2:], differs[-2:])
    whole = model.losses(images, model.encode_text(["a red ball"]), ["cap"])["cap"] * len(ends)
    assert_close(ends[-1:], whole, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ANSWERING)
def test_the_placeholder_is_written_as_the_processor_writes_it(family: str, folder_of: Folder) -> None:
    """For pictures of two sizes; Qwen2.5-VL writes more tokens for the larger one."""
    model = load(folder_of, family)
    network = model.network
    counts = []
    for height, width in ((32, 32), (64, 48)):
        place = network._placeholder(height, width)
        plain = network.conversation.probe_ids()
        ids = [*plain[: place.start], *place.ids.tolist(), *plain[place.start + place.removed :]]
        written = network.processor(
            text=[network.conversation.probe()],
            images=network.images.listed(torch.zeros(1, 3, height, width, dtype=torch.uint8)),
            add_special_tokens=family == "llava",
            **network.images.settings,
        )["input_ids"][0]
        assert ids == list(written)
        counts.append(len(ids))
    assert (counts[0] < counts[1]) == (family == "qwen2.5-vl")


@torch.no_grad()
@pytest.mark.parametrize("family", ANSWERING)
def test_the_vision_tower_runs_once_for_all_objectives(family: str, folder_of: Folder) -> None:
    model = load(folder_of, family)
    inner = model.network.model.model
    tower = next(
        t for name in ("vision_tower", "vision_model", "visual") if (t := getattr(inner, name, None))
    )
    calls: list[int] = []
    handle = tower.register_forward_hook(lambda *_: calls.append(1))
    model.losses(torch.zeros(1, 3, 32, 32), model.encode_text(["a cat"]), ["cap", "vqa"])
    handle.remove()
    assert len(calls) == 1


@torch.no_grad()
def test_siglip_gets_texts_of_full_length(folder_of: Folder) -> None:
    """As it was trained; the loss is minus the cosine of the model's own forward pass."""
    model = load(folder_of, "siglip")
    network = model.network
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    inputs = network.processor(
        text=PROMPTS,
        images=list(images.to(torch.uint8)),
        padding="max_length",
        max_length=64,
        return_tensors="pt",
    )
    output = network.model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
    cosine = (output.image_embeds * output.text_embeds).sum(-1)
    found = model.losses(images / 127.5 - 1, model.encode_text(PROMPTS), ["itc"])["itc"]
    assert_close(found, -cosine, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["siglip", "blip-retrieval", "blip2-retrieval", "llava", "qwen2.5-vl"])
def test_weights_in_half_precision(family: str, folder_of: Folder) -> None:
    """They stay so when the engine asks for float32; losses are close, gradients finite."""
    exact = load(folder_of, family)
    half = load_guidance(folder_of(family), weights=torch.bfloat16).to("cpu", torch.float32)
    parameters = list(half.network.model.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
    stored = sum(parameter.nbytes for parameter in exact.network.model.parameters())
    assert sum(parameter.nbytes for parameter in parameters) * 2 == stored
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    shown = images.clone().requires_grad_()
    losses = half.losses(shown, half.encode_text(PROMPTS), half.objectives)
    for name, expected in exact.losses(images, exact.encode_text(PROMPTS), exact.objectives).items():
        assert losses[name].dtype == torch.float32
        assert_close(losses[name], expected, rtol=0.05, atol=0.05)
    (gradient,) = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), shown)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert half.fingerprint != exact.fingerprint


class WeightCasts(TorchDispatchMode):
    """Counts the casts to bfloat16 of tensors with the shape of a matrix of weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shapes = {p.shape for p in model.network.model.parameters() if p.dim() == 2}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_to_copy" and out.dtype == torch.bfloat16 and out.shape in self.shapes:
            self.count += 1
        return out


@torch.no_grad()
def test_weights_in_half_precision_are_not_cast_at_every_call(folder_of: Folder) -> None:
    counts = []
    for weights in (torch.float32, torch.bfloat16):
        model = load_guidance(folder_of("siglip"), weights=weights)
        text = model.encode_text(["a cat"])
        with WeightCasts(model) as casts, torch.autocast("cpu", torch.bfloat16):
            model.losses(torch.zeros(1, 3, 32, 32), text, ["itc"])
        counts.append(casts.count)
    assert counts[0] > 0
    assert counts[1] == 0


@torch.no_grad()
@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_sigmoid_is_the_training_loss_of_siglip(family: str, folder_of: Folder) -> None:
    """The model's own loss of a batch of one pair, which has no negatives: -log sigmoid(z) of its logit z."""
    model = load_guidance(folder_of(family), ObjectiveOptions(itc_mode="sigmoid"))
    network = model.network
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    found = model.losses(images / 127.5 - 1, model.encode_text(PROMPTS), ["itc"])["itc"]
    for row, prompt in enumerate(PROMPTS):
        shown = network.processor.image_processor([images[row].to(torch.uint8)], return_tensors="pt")
        tokens = network.tokenizer([prompt], padding="max_length", max_length=64, return_tensors="pt")
        inputs = {**shown, "input_ids": tokens["input_ids"]}
        assert_close(found[row], network.model(**inputs, return_loss=True).loss, rtol=1e-5, atol=1e-5)
    assert model.default_scales["itc"] == pytest.approx(300 / float(network.model.logit_scale.exp()))
    assert model.fingerprint != load(folder_of, family).fingerprint


def test_constants_of_the_sigmoid_survive_a_cast(folder_of: Folder) -> None:
    options = ObjectiveOptions(itc_mode="sigmoid")
    exact = float(load_guidance(folder_of("siglip"), options).network.model.logit_bias)
    assert exact != float(torch.tensor(exact).bfloat16())
    half = load_guidance(folder_of("siglip"), options, weights=torch.bfloat16)
    assert half.network.logit_bias == exact


@torch.no_grad()
def test_blip2_is_its_own_forward_pass(folder_of: Folder) -> None:
    model = load(folder_of, "blip2-retrieval")
    network = model.network
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    pixels = network.processor.image_processor(list(images.to(torch.uint8)), return_tensors="pt")
    tokens = network.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    inputs = {"pixel_values": pixels["pixel_values"], "input_ids": tokens["input_ids"]}
    inputs["attention_mask"] = tokens["attention_mask"]
    found = model.losses(images / 127.5 - 1, model.encode_text(PROMPTS), ["itc", "itm"])
    itc = network.model(**inputs, use_image_text_matching_head=False).logits_per_image
    itm = network.model(**inputs, use_image_text_matching_head=True).logits_per_image
    assert_close(found["itc"], -itc.diagonal(), rtol=1e-5, atol=1e-5)
    assert_close(found["itm"], -itm.log_softmax(-1)[:, 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip2", "llava", "qwen2.5-vl", "smolvlm"])
@pytest.mark.parametrize("size", [(1, 1), (150, 1)])
def test_pictures_of_one_pixel_and_thin_ones(
    family: str, size: tuple[int, int], folder_of: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    """They have finite losses and gradients, and transformers does not guess the order of their dimensions."""
    model = load(folder_of, family)
    capfd.readouterr()
    shown = torch.full((1, 3, *size), 0.3, requires_grad=True)
    losses = model.losses(shown, model.encode_text(["a cat"]), model.objectives)
    (gradient,) = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), shown)
    assert all(bool(loss.isfinite().all()) for loss in losses.values())
    assert bool(gradient.isfinite().all())
    assert "ambiguous" not in capfd.readouterr().err
