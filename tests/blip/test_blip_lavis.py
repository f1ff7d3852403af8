"""Our network against LAVIS: names, shared tensors, and on the CPU the same bits, in evaluation and in training.

LAVIS's own pretraining forward is the oracle of what the three losses mean.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blip_models import lively, published_vocabulary, sharing
from guidelens.errors import GuidelensError
from guidelens_blip import PRESETS, BlipConfig, BlipGuidance, BlipOptions, build_blip, load_blip, save_blip
from guidelens_blip.checkpoint import interpolate_positions, load_state
from guidelens_blip.lavis import build_lavis, import_quietly
from guidelens_blip.plugin import blip as blip_component
from guidelens_blip.untrained import untrained_blip
from guidelens_worlds.shapes.files import FILES
from torch.testing import assert_close

lavis = pytest.mark.lavis
OBJECTIVES = ("itc", "itm", "cap")


def twin(model: Any, config: BlipConfig, vocab: Path, **rest: Any) -> Any:
    """LAVIS's model with the same weights."""
    other = build_lavis(config, vocab, **rest)
    load_state(other, model.state_dict())
    return other


@pytest.fixture
def full_model(model: Any, config: BlipConfig, vocab: Path) -> Any:
    """LAVIS's model with its momentum encoders and queues, so that LAVIS's own forward runs."""
    full = twin(model, config, vocab, momentum=True, queue_size=12)
    full.copy_params()
    return full


def assert_same_bits(
    ours: BlipGuidance, theirs: BlipGuidance, images: torch.Tensor, prompts: list[str]
) -> None:
    """Losses and image gradients of each objective."""
    texts = ours.encode_text(prompts), theirs.encode_text(prompts)
    for name in OBJECTIVES:
        results = []
        for guidance, text in zip((ours, theirs), texts, strict=True):
            point = images.clone().requires_grad_()
            loss = guidance.losses(point, text, [name])[name]
            (gradient,) = torch.autograd.grad(loss.sum(), point)
            assert gradient.flatten(1).norm(dim=1).min() > 0
            results.append((loss.detach(), gradient))
        assert_close(results[0], results[1], rtol=0, atol=0)


# --- architecture --------------------------------------------------------------------------------------------


class LinspaceOnCpu(torch.overrides.TorchFunctionMode):
    """LAVIS's vision transformer reads numbers back from ``linspace``, which the meta device cannot give."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.linspace:
            return func(*args, **{**(kwargs or {}), "device": "cpu"})
        return func(*args, **(kwargs or {}))


def lavis_model(vit: dict[str, Any], bert: Any, tokenizer: Any, **sizes: int) -> Any:
    """Compose ``BlipPretrain`` from LAVIS's own parts, tied by LAVIS's own function."""
    base = import_quietly("lavis.models.blip_models.blip_pretrain").BlipPretrain
    med = import_quietly("lavis.models.med")
    image_encoder = import_quietly("lavis.models.vit").VisionTransformerEncoder(**vit)
    image_encoder.vision_width = vit["embed_dim"]

    class Reference(base):
        @classmethod
        def init_tokenizer(cls) -> Any:
            return tokenizer

    with contextlib.redirect_stdout(io.StringIO()):  # it prints each pair it ties
        return Reference(
            image_encoder=image_encoder,
            text_encoder=med.XBertEncoder(config=bert, add_pooling_layer=False),
            text_decoder=med.XBertLMHeadDecoder(config=bert),
            tie_enc_dec_weights=True,
            **sizes,
        )


def for_inference(names: Any) -> set[str]:
    unused = ("_m.", "queue", "position_ids")
    return {name for name in names if not any(part in name for part in unused)}


@lavis
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_lavis_models(preset: str, tmp_path: Path) -> None:
    """Names, shapes and shared parameters of the published architectures, from LAVIS's own configuration."""
    vocab, config = published_vocabulary(tmp_path), PRESETS[preset]
    bert = import_quietly("lavis.models.med").BertConfig.from_json_file(
        import_quietly("lavis.common.utils").get_abs_path("configs/models/med_config.json")
    )
    bert.encoder_width = config.vision_width
    vit = {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": config.vision_width,
        "depth": {"base": 12, "large": 24}[preset],
        "num_heads": {"base": 12, "large": 16}[preset],
    }
    with torch.device("meta"), LinspaceOnCpu():
        ours = build_blip(config, vocab)
        backend = build_lavis(config, vocab, momentum=True)
        theirs = lavis_model(vit, bert, backend.tokenizer, queue_size=57600)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in backend.state_dict().items()} == shapes
    assert sharing(backend) == sharing(theirs)
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: shapes[name] for name in for_inference(shapes)
    }
    assert sharing(ours) == {names for names in sharing(theirs) if for_inference(names)}
    for key in ("layer_norm_eps", "hidden_act", "pad_token_id", "hidden_dropout_prob", "encoder_width"):
        assert getattr(backend.text_encoder.config, key) == getattr(theirs.text_encoder.config, key)


@lavis
def test_positions_are_interpolated_as_lavis_does(model, config, vocab) -> None:
    other = build_blip(config.with_image_size(24), vocab).visual_encoder
    lavis_own = build_lavis(config.with_image_size(24), vocab).visual_encoder
    positions = model.visual_encoder.pos_embed.detach()
    expected = import_quietly("lavis.models.vit").interpolate_pos_embed(positions, lavis_own)
    assert_close(interpolate_positions(positions, other.pos_embed), expected, rtol=0, atol=0)


# --- the same bits -------------------------------------------------------------------------------------------


@lavis
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_random_weights(model, config, vocab, images, prompts, dtype: torch.dtype) -> None:
    ours = BlipGuidance(model, config).to(dtype=dtype)
    theirs = BlipGuidance(twin(model, config, vocab), config).to(dtype=dtype)
    assert ours.fingerprint == theirs.fingerprint
    assert_same_bits(ours, theirs, images.to(dtype), prompts)
    assert ours.caption(images) == theirs.caption(images)


@lavis
@pytest.mark.parametrize("heads", [2, 3])
def test_widths_of_heads_that_are_no_powers_of_four(config, vocab, images, prompts, heads: int) -> None:
    """A quotient by sqrt(d) and a product with 1 / sqrt(d) round differently then."""
    config = replace(config, vision_width=36, vision_heads=heads, hidden_size=36, text_heads=heads)
    model = lively(build_blip(config, vocab))
    theirs = BlipGuidance(twin(model, config, vocab), config)
    assert_same_bits(BlipGuidance(model, config), theirs, images, prompts)


@lavis
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("weights", [FILES.blip, FILES.blip_clean], ids=["x0", "clean"])
def test_shipped_weights(weights: Path, dtype: torch.dtype) -> None:
    ours, theirs = (load_blip(weights, vocab=FILES.vocab, backend=backend) for backend in ("native", "lavis"))
    assert ours.fingerprint == theirs.fingerprint
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 32, 32, generator=generator, dtype=torch.float64).to(dtype) * 2 - 1
    assert ours.caption(images.float()) == theirs.caption(images.float())
    prompts = [
        "a red circle",
        "two small green triangles",
        "a red circle, a white cross and a black square on a gray background",
        "a large bleu square abvoe a circle.",
    ]
    assert_same_bits(ours.to(dtype=dtype), theirs.to(dtype=dtype), images, prompts)


@lavis
@pytest.mark.slow
def test_full_size(tmp_path: Path) -> None:
    config, vocab = PRESETS["base"], published_vocabulary(tmp_path)
    model = build_blip(config, vocab)
    theirs = BlipGuidance(twin(model, config, vocab), config)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert_same_bits(BlipGuidance(model, config), theirs, images, ["word1 word7 word20000"])


@lavis
def test_training_with_dropout(model, config, vocab, images, prompts) -> None:
    """With the same random numbers: the gradients of all parameters, tied ones included."""
    other = twin(model, config, vocab)
    text = BlipGuidance(model, config).encode_text(prompts)
    ids, mask = text.tensors["cap_ids"], text.tensors["mask"]
    gradients = []
    for network in (model, other):
        network.train().requires_grad_(True)
        torch.manual_seed(4)
        patches = network.visual_encoder(images)
        matching = network.itm_head(network.text_states(text.tensors["itm_ids"], mask, patches)[:, 0])
        contrast = network.text_proj(network.text_states(ids, mask)[:, 0]) * network.vision_proj(
            patches[:, 0]
        )
        logits = network.token_logits(ids, mask, patches)
        (matching.logsumexp(1).sum() + contrast.sum() / network.temp + logits.logsumexp(2).mean()).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == {name for name, p in model.named_parameters()}
    assert_close(gradients[0], {name: gradients[1][name] for name in gradients[0]})


@lavis
def test_untrained_models_are_the_same(config) -> None:
    ours, theirs = (untrained_blip(config, seed=3, backend=backend) for backend in ("native", "lavis"))
    assert BlipGuidance(ours, config).fingerprint == BlipGuidance(theirs, config).fingerprint


# --- LAVIS's own forward -------------------------------------------------------------------------------------


def lavis_forward(model: Any, config: BlipConfig, images: torch.Tensor, prompts: list[str]) -> Any:
    """Run LAVIS's own pretraining forward on images in [-1, 1] of the model's size."""
    mean = torch.tensor(config.image_mean)[:, None, None]
    std = torch.tensor(config.image_std)[:, None, None]
    batch = {"image": ((images + 1) / 2 - mean) / std, "text_input": prompts}
    with torch.no_grad():
        return model.eval()({**batch, "epoch": 0, "iters": 0, "num_iters_per_epoch": 1})


@lavis
def test_itm_is_lavis_cross_entropy_of_the_positive_pairs(model, full_model, config, images, prompts) -> None:
    logits = lavis_forward(full_model, config, images, prompts).intermediate_output.itm_logits[:3]
    blip = BlipGuidance(model, config)
    text = blip.encode_text(prompts)
    expected = F.cross_entropy(logits, torch.ones(3, dtype=torch.long), reduction="none")
    assert_close(blip.losses(images, text, ["itm"])["itm"], expected)
    assert_close(blip.match_probability(images, text), logits.softmax(dim=1)[:, 1])
    margin = BlipGuidance(model, config, BlipOptions(itm_mode="margin"))
    assert_close(margin.losses(images, text, ["itm"])["itm"], logits[:, 0] - logits[:, 1])


@lavis
def test_itc_is_lavis_similarity(model, full_model, config, images, prompts) -> None:
    similarity = lavis_forward(full_model, config, images, prompts).sims.sim_i2t[:, :3]
    blip = BlipGuidance(model, config, BlipOptions(temperature="learned"))
    text = blip.encode_text(prompts)
    assert_close(blip.losses(images, text, ["itc"])["itc"], -similarity.diag())
    assert_close(blip.similarity(images, text) / full_model.temp, similarity)
    plain = BlipGuidance(model, config)
    assert_close(plain.losses(images, text, ["itc"])["itc"], -similarity.diag() * full_model.temp)
    halved = BlipGuidance(model, config, BlipOptions(temperature=2.0))
    assert_close(halved.losses(images, text, ["itc"])["itc"], -similarity.diag() * full_model.temp / 2)


@lavis
def test_cap_is_lavis_loss_taken_per_sample(model, full_model, config, images, prompts) -> None:
    """LAVIS averages over all tokens of the batch: our per-sample means, weighted by length, must give the
    same."""
    output = lavis_forward(full_model, config, images, prompts)
    smooth = BlipGuidance(model, config, BlipOptions(label_smoothing=0.1))  # LAVIS's own value
    text = smooth.encode_text(prompts)
    predicted = text.tensors["lengths"] - 1  # the leading [DEC] is not predicted
    losses = smooth.losses(images, text, ["cap"])["cap"]
    assert_close((losses * predicted).sum() / predicted.sum(), output.loss_lm)

    middle = output.intermediate_output
    logits, labels = middle.decoder_output.logits, middle.decoder_labels
    expected = torch.stack(
        [F.cross_entropy(row[:-1], target[1:]) for row, target in zip(logits, labels, strict=True)]
    )
    assert_close(BlipGuidance(model, config).losses(images, text, ["cap"])["cap"], expected)


@lavis
@pytest.mark.parametrize("size", [224, 384])
def test_published_image_sizes(config, vocab, tmp_path: Path, size: int) -> None:
    """Positions interpolated by LAVIS's own loader."""
    medium = BlipConfig(
        vision_width=192,
        vision_depth=2,
        vision_heads=3,
        hidden_size=192,
        text_layers=2,
        text_heads=3,
        intermediate_size=384,
    )
    stored = lively(build_blip(medium, vocab), std=0.08)
    save_blip(stored, medium, tmp_path / "medium.safetensors")
    ours = load_blip(tmp_path / "medium.safetensors", vocab=vocab, image_size=size)
    theirs = build_lavis(ours.config, vocab, momentum=True, queue_size=12)
    state = dict(stored.state_dict())
    state["visual_encoder.pos_embed"] = import_quietly("lavis.models.vit").interpolate_pos_embed(
        state["visual_encoder.pos_embed"], theirs.visual_encoder
    )
    theirs.load_state_dict(state, strict=False)
    theirs.copy_params()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    prompts = ["a red circle", "a small green triangle above a large blue square on"]
    output = lavis_forward(theirs, medium, images, prompts)
    text = ours.encode_text(prompts)
    losses = ours.losses(images, text, OBJECTIVES)
    similarity = output.sims.sim_i2t[:, :2].diag() * theirs.temp
    assert_close(losses["itc"], -similarity, rtol=1e-4, atol=1e-5)
    logits = output.intermediate_output.itm_logits[:2]
    assert_close(losses["itm"], -logits.log_softmax(dim=1)[:, 1], rtol=1e-4, atol=1e-4)
    counted = text.tensors["lengths"] - 1
    smooth = BlipGuidance(ours.model, ours.config, BlipOptions(label_smoothing=0.1))
    weighted = (smooth.losses(images, text, ["cap"])["cap"] * counted).sum() / counted.sum()
    assert_close(weighted, output.loss_lm, rtol=1e-4, atol=1e-4)


# --- the backend ---------------------------------------------------------------------------------------------


@lavis
def test_the_component_runs_on_lavis() -> None:
    component = blip_component(checkpoint=str(FILES.blip), vocab=str(FILES.vocab), backend="lavis")
    assert type(component.model).__mro__[1].__module__.startswith("lavis.")


def test_without_lavis_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GuidelensError) as caught:
        load_blip(FILES.blip, vocab=FILES.vocab, backend="lavis")
    message = str(caught.value)
    assert "\n" not in message
    assert "backend=lavis needs salesforce-lavis, which installs on Python 3.10 and 3.11" in message
    assert ("guidelens[lavis]" in message) is (sys.version_info < (3, 12))


USE = """
import sys, threading
from guidelens_blip import load_blip
import torch, logging
def use():
    blip = load_blip(sys.argv[1], vocab=sys.argv[2], image_size=40, backend="lavis")
    text = blip.encode_text(["a red circle"])
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    sum(loss.sum() for loss in blip.losses(images, text, blip.objectives).values()).backward()
    blip.caption(images)
    done.append(blip.fingerprint)
done = []
threads = [threading.Thread(target=use) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
use()
assert len(done) == 3 and len(set(done)) == 1, done
from transformers.utils import logging
assert logging.get_verbosity() == logging.WARNING, logging.get_verbosity()
import warnings
assert not any(f[:3] == ("ignore", None, Warning) for f in warnings.filters), warnings.filters
"""


@lavis
def test_import_noise_does_not_reach_the_user_from_any_thread() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    environment.pop("PYTHONWARNINGS", None)
    command = [sys.executable, "-c", USE, str(FILES.blip), str(FILES.vocab)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
