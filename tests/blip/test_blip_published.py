"""The published checkpoint's way, on stand-ins of its form: found in the cache, without any network, at 224 px and
others, with LAVIS's own numbers, encoding text once a run and images once a step."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blip_models import lively
from guidelens import Engine, PluginManager, Sample
from guidelens.testing.toys import TinyGenerator
from guidelens.weights import convert
from guidelens_blip import PRESETS, BlipConfig, BlipGuidance, BlipOptions, build_blip, load_blip
from guidelens_blip.plugin import blip
from torch.testing import assert_close

PROMPTS = ["a red circle", "blue square", "a small green triangle above a large blue square on"]


@pytest.fixture(scope="module")
def medium() -> BlipConfig:
    """The published model's image size, patch and joint space, at a quarter of its width and depth."""
    return BlipConfig(
        vision_width=192,
        vision_depth=3,
        vision_heads=3,
        hidden_size=192,
        text_layers=3,
        text_heads=3,
        intermediate_size=768,
    )


@pytest.fixture(scope="module")
def checkpoint(medium: BlipConfig, vocab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As LAVIS writes them: every name, momentum encoders and queues too, under "model"."""
    path = tmp_path_factory.mktemp("medium") / "model.pth"
    with torch.random.fork_rng(devices=[]):
        model = lively(build_blip(medium, vocab, momentum=True, queue_size=12), std=0.08)
    model.copy_params()
    torch.save({"model": model.state_dict()}, path)
    return path


def lavis_itself(config: BlipConfig, vocab: Path, checkpoint: Path) -> Any:
    """LAVIS's model with LAVIS's own loader: it interpolates position embeddings by itself."""
    model = build_blip(config, vocab, momentum=True, queue_size=12)
    state = torch.load(checkpoint, weights_only=True)["model"]
    from lavis.models.vit import interpolate_pos_embed

    for name, encoder in (
        ("visual_encoder", model.visual_encoder),
        ("visual_encoder_m", model.visual_encoder_m),
    ):
        state[f"{name}.pos_embed"] = interpolate_pos_embed(state[f"{name}.pos_embed"], encoder)
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("size", [224, 384])
def test_losses_are_lavis_own_at_the_published_image_sizes(
    medium: BlipConfig, vocab: Path, checkpoint: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    guidance = load_blip(checkpoint, vocab=vocab, config=medium, image_size=size)
    lavis = lavis_itself(guidance.config, vocab, checkpoint)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    mean, std = (torch.tensor(values)[:, None, None] for values in (medium.image_mean, medium.image_std))
    batch = {"image": ((images + 1) / 2 - mean) / std, "text_input": PROMPTS}
    with torch.no_grad():
        theirs = lavis({**batch, "epoch": 0, "iters": 0, "num_iters_per_epoch": 1})
    text = guidance.encode_text(PROMPTS)
    losses = guidance.losses(images, text, ["itc", "itm", "cap"])

    similarities = theirs.sims.sim_i2t[:, :3]
    assert_close(guidance.similarity(images, text) / lavis.temp, similarities, rtol=1e-4, atol=1e-4)
    assert_close(losses["itc"], -similarities.diag() * lavis.temp, rtol=1e-4, atol=1e-5)

    logits = theirs.intermediate_output.itm_logits[:3]  # LAVIS puts the true pairs first
    with torch.no_grad():
        ours = guidance._match_logits(guidance._patches(images), guidance._trimmed(text))
    assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert_close(losses["itm"], -logits.log_softmax(dim=1)[:, 1], rtol=1e-4, atol=1e-4)

    labels = theirs.intermediate_output.decoder_labels
    per_token = F.cross_entropy(
        theirs.intermediate_output.decoder_output.logits[:, :-1].transpose(1, 2),
        labels[:, 1:],
        reduction="none",
    )
    counted = (labels[:, 1:] != -100).sum(dim=1)
    assert counted.tolist() == [len(prompt.split()) + 1 for prompt in PROMPTS]
    assert_close(losses["cap"], per_token.sum(dim=1) / counted, rtol=1e-4, atol=1e-4)
    smooth = BlipGuidance(guidance.model, guidance.config, BlipOptions(label_smoothing=0.1))
    weighted = (smooth.losses(images, text, ["cap"])["cap"] * counted).sum() / counted.sum()
    assert_close(weighted, theirs.loss_lm, rtol=1e-4, atol=1e-4)
    for name, loss in losses.items():
        assert loss.std() > 1e-3, f"the pairs should differ in {name} for this test to mean something"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **rest: object) -> Any:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_fetched_files_are_found_and_need_no_network(
    medium: BlipConfig,
    vocab: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,
) -> None:
    """With the files in the cache neither an option nor a hub is needed; each published name has its own place."""
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path))
    monkeypatch.setitem(PRESETS, "base", medium)  # type: ignore[arg-type]
    for name, filename in (
        ("blip-base", "model_base_capfilt_large.pth"),
        ("blip-base-14m", "model_base_14M.pth"),
    ):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        (folder / filename).write_bytes(checkpoint.read_bytes())
        (folder / "vocab.txt").write_bytes(vocab.read_bytes())
    by_default = PluginManager.load().build("guidance", "blip")
    expected = load_blip(checkpoint, vocab=vocab, config=medium)
    assert by_default.fingerprint == expected.fingerprint
    assert blip(checkpoint="blip-base-14m").fingerprint == expected.fingerprint
    assert by_default.caption(torch.zeros(1, 3, 16, 16)) == expected.caption(torch.zeros(1, 3, 16, 16))


def test_a_run_encodes_text_once_and_the_image_once_a_step(model: Any, config: BlipConfig) -> None:
    guidance = BlipGuidance(model, config)
    calls = {"image": 0, "unimodal text": 0, "matching": 0, "decoder": 0}

    def count_text(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        calls["unimodal text" if kwargs.get("mode") == "text" else "matching"] += 1

    model.visual_encoder.register_forward_pre_hook(lambda *_: calls.update(image=calls["image"] + 1))
    model.text_encoder.register_forward_pre_hook(count_text, with_kwargs=True)
    model.text_decoder.register_forward_pre_hook(lambda *_: calls.update(decoder=calls["decoder"] + 1))

    class Everything:
        def weights(self, progress: float) -> dict[str, float]:
            return {"itc": 1.0, "itm": 0.5, "cap": 0.5}

    engine = Engine(TinyGenerator(size=16), guidance, steps=5, device="cpu")
    samples = [
        Sample(prompt, Everything(), seed=i) for i, prompt in enumerate(["a red circle", "blue square"])
    ]
    steps = list(engine.stream(samples))
    assert len(steps) == 5
    assert calls == {"image": 5, "unimodal text": 1, "matching": 5, "decoder": 5}


def test_a_converted_checkpoint_is_the_same_model(
    medium: BlipConfig, vocab: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """safetensors holds shared tensors once, under whichever of their names comes first."""
    done = convert(checkpoint, tmp_path / "model.safetensors")
    assert done.key == "model"
    shared = "text_encoder.encoder.layer.0.crossattention.self.query.weight"
    assert done.shared["text_decoder.bert.encoder.layer.0.crossattention.self.query.weight"] == shared
    loaded = load_blip(tmp_path / "model.safetensors", vocab=vocab, config=medium)
    assert loaded.fingerprint == load_blip(checkpoint, vocab=vocab, config=medium).fingerprint
