"""The published checkpoint's way, on stand-ins of its form: found in the cache, without any network,
encoding text once a run and images once a step."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from blip_models import lively, with_momentum
from guidelens import Engine, PluginManager, Sample
from guidelens.sampling import Sampling
from guidelens.testing.toys import TinyGenerator
from guidelens.weights import convert
from guidelens_blip import PRESETS, BlipConfig, BlipGuidance, build_blip, load_blip
from guidelens_blip.plugin import blip


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
    """As published: every name, momentum encoders and queues too, under "model"."""
    path = tmp_path_factory.mktemp("medium") / "model.pth"
    with torch.random.fork_rng(devices=[]):
        model = lively(build_blip(medium, vocab), std=0.08)
    torch.save({"model": with_momentum(model.state_dict())}, path)
    return path


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

    def count_text(_module: Any, inputs: tuple[Any, ...]) -> None:
        calls["unimodal text" if inputs[2] is None else "matching"] += 1

    model.visual_encoder.register_forward_pre_hook(lambda *_: calls.update(image=calls["image"] + 1))
    model.text_encoder.register_forward_pre_hook(count_text)
    model.text_decoder.register_forward_pre_hook(lambda *_: calls.update(decoder=calls["decoder"] + 1))

    class Everything:
        def weights(self, progress: float) -> dict[str, float]:
            return {"itc": 1.0, "itm": 0.5, "cap": 0.5}

    engine = Engine(TinyGenerator(size=16), guidance, Sampling(steps=5), device="cpu")
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
