"""The losses: held to open_clip's own forward, to finite differences, and to independence between samples."""

from __future__ import annotations

import math
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from guidelens.contracts import GuidanceModel, TextBatch
from guidelens.errors import GuidelensError, UsageError
from guidelens_open_clip import OpenClipGuidance, OpenClipOptions, Preprocess
from open_clip.loss import SigLipLoss
from small_models import CONFIGS, build
from torch.testing import assert_close

KINDS = tuple(CONFIGS)
EVERY_LOSS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clip": ("clip", "itc", {}),
    "clip-learned": ("clip", "itc", {"temperature": "learned"}),
    "clip-templates": ("clip", "itc", {"templates": ("a photo of {}", "{} on a background")}),
    "siglip": ("siglip", "itc", {}),
    "siglip-sigmoid": ("siglip", "itc", {"itc_mode": "sigmoid"}),
    "coca-itc": ("coca", "itc", {}),
    "coca-cap": ("coca", "cap", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_guidance_model(guide, kind: str) -> None:
    model = guide(kind)
    assert isinstance(model, GuidanceModel)
    assert model.objectives == ({"itc", "cap"} if kind == "coca" else {"itc"})
    assert isinstance(model.objectives, frozenset)
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_itc_is_the_logits_of_open_clip(guide, images, prompts, network_input, kind: str) -> None:
    model = guide(kind)
    with torch.no_grad():
        logits, _ = model.model.get_logits(network_input(images), model.tokenizer(prompts))
    text = model.encode_text(prompts)
    bias = 0.0 if kind == "clip" else -2.0
    scale = 1 / 0.07
    assert model.logit_scale == pytest.approx(scale)
    assert model.logit_bias == (None if kind == "clip" else bias)
    assert_close(model.similarity(images, text) * scale + bias, logits)
    assert_close(model.losses(images, text, ["itc"])["itc"], -(logits.diag() - bias) / scale)
    learned = guide(kind, temperature="learned")
    assert_close(learned.losses(images, text, ["itc"])["itc"], -(logits.diag() - bias))
    halved = guide(kind, temperature=2.0)
    assert_close(halved.losses(images, text, ["itc"])["itc"], -(logits.diag() - bias) / scale / 2)


def test_sigmoid_is_the_loss_of_siglip(guide, images, prompts, network_input) -> None:
    model = guide("siglip", itc_mode="sigmoid")
    losses = model.losses(images, model.encode_text(prompts), ["itc"])["itc"]
    for i, prompt in enumerate(prompts):  # one pair alone has no negatives
        with torch.no_grad():
            outputs = model.model(network_input(images[i : i + 1]), model.tokenizer([prompt]))
            assert_close(losses[i], SigLipLoss()(*outputs))
    fixed = guide("siglip", itc_mode="sigmoid", temperature=0.5)
    cosines = fixed.similarity(images, fixed.encode_text(prompts)).diag()
    assert_close(
        fixed.losses(images, fixed.encode_text(prompts), ["itc"])["itc"],
        torch.log1p(torch.exp(-(cosines / 0.5 - 2.0))),
    )


def test_cap_and_itc_are_cocas_own(guide, images, prompts, network_input) -> None:
    model = guide("coca", temperature="learned")
    with torch.no_grad():
        output = model.model(network_input(images), model.tokenizer(prompts))
    text = model.encode_text(prompts)
    losses = model.losses(images, text, ["cap", "itc"])
    assert list(losses) == ["itc", "cap"]
    similarity = output["logit_scale"] * output["image_features"] @ output["text_features"].T
    assert_close(losses["itc"], -similarity.diag())
    expected = [
        F.cross_entropy(row[: int((target != 0).sum())], target[target != 0])
        for row, target in zip(output["logits"], output["labels"], strict=True)
    ]
    assert_close(losses["cap"], torch.stack(expected))
    own_loss = open_clip.CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=1.0)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            output = model.model(network_input(images[i : i + 1]), model.tokenizer([prompt]))
            _, caption = own_loss(**output)
        assert_close(losses["cap"][i], caption)


def test_image_features_are_shared_by_objectives(guide, images, prompts) -> None:
    model = guide("coca")
    text = model.encode_text(prompts)
    seen = []
    handle = model.model.visual.register_forward_hook(lambda *_: seen.append(1))
    read = model.model.text.register_forward_hook(lambda *_: seen.append("text"))
    model.losses(images, text, ["itc", "cap"])
    handle.remove()
    read.remove()
    assert seen == [1]  # and the text tower is not asked again


def test_a_decoder_over_text_that_sees_ahead_is_no_objective(images, tokenizers, prompts) -> None:
    """Its token states would hold the very words that the decoder is to predict."""
    config = {**CONFIGS["coca"], "text_cfg": {**CONFIGS["coca"]["text_cfg"], "no_causal_mask": True}}
    model = OpenClipGuidance(build(config), tokenizers["coca"])
    assert model.objectives == {"itc"}
    text = model.encode_text(prompts)
    assert set(text.tensors) == {"text_features"}
    assert set(model.losses(images, text, ["itc"])) == {"itc"}


@pytest.mark.parametrize("size", [(32, 32), (40, 36)], ids=["same-size", "resized"])
@pytest.mark.parametrize("case", EVERY_LOSS)
def test_image_gradients_are_finite_differences(tokenizers, prompts, case: str, size) -> None:
    kind, name, options = EVERY_LOSS[case]
    model = OpenClipGuidance(build(CONFIGS[kind]), tokenizers[kind], OpenClipOptions(**options))
    model.to(dtype=torch.float64)
    text = model.encode_text(prompts)
    generator = torch.Generator().manual_seed(1)
    images = (torch.rand(3, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
    loss = model.losses(images, text, [name])[name]
    assert loss.dtype == torch.float64
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert gradient.flatten(1).norm(dim=1).min() > 1e-3
    for _ in range(3):
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 * direction
        with torch.no_grad():
            ahead = model.losses(images + step, text, [name])[name]
            behind = model.losses(images - step, text, [name])[name]
        slope = (gradient * direction).flatten(1).sum(dim=1)  # per sample: no sample reaches into another
        assert_close((ahead - behind) / 2e-5, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", EVERY_LOSS)
def test_a_sample_does_not_depend_on_its_neighbours(guide, images, prompts, case: str) -> None:
    kind, name, options = EVERY_LOSS[case]
    model = guide(kind, **options)
    together = model.losses(images, model.encode_text(prompts), [name])[name]
    assert together.shape == (3,)
    for i, prompt in enumerate(prompts):
        alone = model.losses(images[i : i + 1], model.encode_text([prompt]), [name])[name]
        assert_close(alone, together[i : i + 1])
    order = [2, 0, 1, 0]
    shuffled = model.losses(images[order], model.encode_text(prompts).select(order), [name])[name]
    assert_close(shuffled, together[order])


def test_what_stands_in_the_padding_does_not_matter(guide, images, prompts) -> None:
    model = guide("coca")
    text = model.encode_text(prompts)
    own = torch.arange(12) < text.tensors["lengths"][:, None]
    rubbish = {
        "ids": torch.where(own, text.tensors["ids"], 9),
        "token_states": torch.where(own[:, :, None], text.tensors["token_states"], 3.0),
    }
    assert not torch.equal(rubbish["ids"], text.tensors["ids"])
    other = TextBatch(text.prompts, {**text.tensors, **rubbish}, text.notes)
    assert_close(model.losses(images, other, ["cap"]), model.losses(images, text, ["cap"]))


def test_a_token_numbered_as_padding_counts(guide, images) -> None:
    """CLIP pads with 0, which is also the piece "!" within a word: open_clip's loss leaves it out, ours does not."""
    model = guide("coca")
    prompt = "red !; circle"
    ids = model.tokenizer([prompt])[0].tolist()
    assert 0 in ids[: ids.index(49407)]
    text = model.encode_text([prompt])
    assert text.tensors["lengths"].tolist() == [ids.index(49407) + 1]


def test_templates_are_averaged(guide, images, prompts) -> None:
    templates = ("a photo of {}", "{} on a background", "sketch of {}, {}")
    model = guide("clip", templates=templates)
    text = model.encode_text(prompts)
    for row, prompt in enumerate(prompts):
        sentences = [
            f"a photo of {prompt}",
            f"{prompt} on a background",
            f"sketch of {prompt}, {prompt}",
        ]
        with torch.no_grad():
            features = model.model.encode_text(model.tokenizer(sentences))
        mean = (features / features.norm(dim=1, keepdim=True)).mean(dim=0)
        assert_close(text.tensors["text_features"][row], mean / mean.norm())


@pytest.mark.parametrize("kind", ["clip", "coca"])
@pytest.mark.parametrize("name", ["SIMPLE_IMAGENET_TEMPLATES", "OPENAI_IMAGENET_TEMPLATES"])
def test_templates_are_open_clips_zero_shot_classifier(guide, images, kind: str, name: str) -> None:
    templates = getattr(open_clip, name)
    model = guide(kind, templates=tuple(template("{}") for template in templates))
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(
            model.model, model.tokenizer, ["circle", "square"], templates
        )
    text = model.encode_text(["circle", "square"])
    assert_close(text.tensors["text_features"], weights.T)
    if kind == "coca":  # captions are of the prompt itself
        plain = guide(kind).encode_text(["circle", "square"])
        assert_close(model.losses(images[:2], text, ["cap"]), guide(kind).losses(images[:2], plain, ["cap"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_whatever_the_network(
    tokenizers, images, prompts, kind: str, dtype: torch.dtype
) -> None:
    model = OpenClipGuidance(build(CONFIGS[kind]), tokenizers[kind])
    exact = model.losses(images, model.encode_text(prompts), model.objectives)
    before = model.fingerprint
    assert model.to("cpu", dtype) is model
    assert (model.device, model.dtype) == (torch.device("cpu"), dtype)
    losses = model.losses(images, model.encode_text(prompts), model.objectives)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert_close(loss, exact[name], rtol=0.05, atol=0.05)
    assert model.fingerprint == before
    assert model.logit_scale == pytest.approx(1 / 0.07)  # rounded by bfloat16 it would not be


@pytest.mark.parametrize("kind", KINDS)
def test_weights_kept_in_half_precision(tokenizers, guide, images, prompts, kind: str) -> None:
    """They take half the memory, and stay so when the engine asks for float32."""
    exact = guide(kind)
    half = OpenClipGuidance(build(CONFIGS[kind]), tokenizers[kind], weights=torch.bfloat16)
    assert half.to("cpu", torch.float32).dtype == torch.bfloat16
    parameters = list(half.model.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
    assert sum(p.nbytes for p in parameters) * 2 == sum(p.nbytes for p in exact.model.parameters())
    assert half.logit_scale == exact.logit_scale  # read before the cast
    text = half.encode_text(prompts)
    for name, loss in exact.losses(images, exact.encode_text(prompts), exact.objectives).items():
        assert_close(half.losses(images, text, [name])[name], loss, rtol=0.05, atol=0.05)
    assert half.fingerprint != exact.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(guide, images, prompts, kind: str) -> None:
    model = guide(kind)
    text = model.encode_text(prompts)
    exact = model.losses(images, text, model.objectives)
    shown = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(shown, text, model.objectives)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert_close(loss, exact[name], rtol=0.05, atol=0.05)
    (gradient,) = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), shown)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0


def test_default_scales(guide, models, tokenizers) -> None:
    assert guide("clip").default_scales == {"itc": 300.0}
    assert guide("coca", temperature=0.5).default_scales == {"itc": 300.0, "cap": 60.0}
    assert guide("siglip", itc_mode="sigmoid").default_scales == {"itc": pytest.approx(300.0 * 0.07)}
    own = OpenClipGuidance(models["clip"], tokenizers["clip"], default_scales={"itc": 2.0})
    assert own.default_scales == {"itc": 2.0}


def test_the_fingerprint_tells_models_and_options_apart(guide, tokenizers) -> None:
    def of(kind: str = "clip", **changes: Any) -> str:
        config = {**CONFIGS[kind], **{k: v for k, v in changes.items() if not isinstance(v, dict)}}
        for part, change in changes.items():
            if isinstance(change, dict):
                config[part] = {**config[part], **change}
        return OpenClipGuidance(build(config), tokenizers[kind]).fingerprint

    assert of() == of() == guide("clip").fingerprint
    variants = {
        of(),
        of(vision_cfg={"head_width": 8}),
        of(vision_cfg={"pool_type": "avg"}),
        of(quick_gelu=True),
        of(text_cfg={"no_causal_mask": True}),
        of(text_cfg={"heads": 4}),
        guide("clip", templates=("a {}",)).fingerprint,
        guide("clip", temperature="learned").fingerprint,
        guide("clip", temperature=0.5).fingerprint,
    }
    assert len(variants) == 9
    other = build(CONFIGS["clip"])
    with torch.no_grad():
        other.logit_scale += 1e-3
    assert OpenClipGuidance(other, tokenizers["clip"]).fingerprint not in variants
    model = build(CONFIGS["clip"])
    bilinear = Preprocess(size=(32, 32), interpolation="bilinear")
    assert (
        OpenClipGuidance(model, tokenizers["clip"], preprocess=bilinear).fingerprint
        != OpenClipGuidance(model, tokenizers["clip"], preprocess=Preprocess(size=(32, 32))).fingerprint
    )
    longer = open_clip.SimpleTokenizer(context_length=12, clean="canonicalize")
    assert OpenClipGuidance(model, longer).fingerprint not in variants


def test_what_it_cannot_do_is_refused(guide, images, prompts) -> None:
    model = guide("clip")
    text = model.encode_text(prompts)
    with pytest.raises(UsageError, match="no objective 'itm'; it has itc"):
        model.losses(images, text, ["itc", "itm"])
    with pytest.raises(ValueError, match="2 images but 3 prompts"):
        model.losses(images[:2], text, ["itc"])
    with pytest.raises(UsageError, match=r"shape \(B, 3, H, W\), not \(3, 1, 32, 32\)"):
        model.losses(images[:, :1], text, ["itc"])
    assert model.losses(images, text, []) == {}
    with pytest.raises(UsageError, match="needs a model with a logit bias"):
        guide("clip", itc_mode="sigmoid")
    for temperature in (0.0, -1.0, math.nan, math.inf, "warm"):
        with pytest.raises(UsageError, match="temperature must be a positive number or 'learned'"):
            OpenClipOptions(temperature=temperature)
    with pytest.raises(UsageError, match="itc_mode must be cosine or sigmoid, not 'softmax'"):
        OpenClipOptions(itc_mode="softmax")  # type: ignore[arg-type]
    with pytest.raises(GuidelensError, match=r"'a photo' has no \{\} where the prompt goes"):
        OpenClipOptions(templates=("a photo",))
