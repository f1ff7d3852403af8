"""The `blip` component: its options, its errors, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights.store import WeightsMissing
from guidelens_blip import BlipConfig, BlipGuidance, save_blip
from guidelens_blip.plugin import blip, register_guidance_models


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    environment.pop("PYTHONWARNINGS", None)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def checkpoint(model: Any, config: BlipConfig, vocab: Path, tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text(vocab.read_text())
    save_blip(model, config, tmp_path / "blip.safetensors")
    return tmp_path / "blip.safetensors"


def test_the_component_is_registered() -> None:
    seen: dict[str, Any] = {}
    register_guidance_models(lambda name, factory, **rest: seen.update({name: (factory, rest)}))
    factory, rest = seen["blip"]
    assert factory is blip
    assert "tokenizers" in rest["requires"]
    assert rest["summary"]


def test_options_reach_the_model(checkpoint: Path) -> None:
    guidance = blip(
        checkpoint=str(checkpoint),
        image_size=24,
        itc="infonce",
        temperature="learned",
        negatives="a blue square| red |",
        itm="margin",
        label_smoothing=0.2,
    )
    assert isinstance(guidance, BlipGuidance)
    options = guidance.options
    assert (options.itc_mode, options.temperature, options.itm_mode) == ("infonce", "learned", "margin")
    assert options.negatives == ("a blue square", "red")
    assert options.label_smoothing == 0.2
    assert guidance.config.image_size == 24
    assert blip(checkpoint=str(checkpoint), temperature="0.5").options.temperature == 0.5


def test_weights_in_half_precision(checkpoint: Path) -> None:
    assert blip(checkpoint=str(checkpoint), weights="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UsageError, match="weights=bfloat16 needs backend=native"):
        blip(checkpoint=str(checkpoint), weights="bfloat16", backend="lavis")


def test_config_option(checkpoint: Path, config: BlipConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    assert blip(checkpoint=str(checkpoint), config=str(path)).config == config
    with pytest.raises(GuidelensError, match="config must be one of base, large or a JSON file, not 'huge'"):
        blip(checkpoint=str(checkpoint), config="huge")


def test_bad_options(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="temperature must be a number or 'learned', not 'warm'"):
        blip(checkpoint=str(checkpoint), temperature="warm")


def test_absent_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path))
    monkeypatch.setattr("guidelens_blip.plugin.published_vocabulary", lambda: None)
    with pytest.raises(WeightsMissing) as caught:
        blip()
    message = str(caught.value)
    assert "model_base_capfilt_large.pth, vocab.txt" in message
    assert "run `guidelens weights fetch blip-base bert-base-uncased-vocab`" in message
    assert str(tmp_path / "weights" / "blip-base" / "model_base_capfilt_large.pth") in message
    with pytest.raises(WeightsMissing, match="weights fetch blip-large`"):
        blip(config="large", vocab="vocab.txt")
    with pytest.raises(WeightsMissing, match="weights fetch blip-base-14m`"):
        blip(checkpoint="blip-base-14m", vocab="vocab.txt")
    with pytest.raises(UsageError, match=r"config=mine.json is not a published size: give checkpoint=FILE"):
        blip(config="mine.json")


def test_importing_the_plugin_loads_no_torch() -> None:
    code = (
        "import sys, guidelens_blip, guidelens_blip.plugin\n"
        "print(sorted({'torch', 'tokenizers', 'lavis', 'transformers'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_untrained_is_seeded_and_says_so(
    config: BlipConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    before = torch.get_rng_state()
    first = blip(config=str(path), untrained=True, image_size=24)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert blip(config=str(path), untrained=True, image_size=24).fingerprint == first.fingerprint
    other = blip(config=str(path), untrained=True, image_size=24, seed=1)
    assert other.fingerprint != first.fingerprint
    assert first.config == config.with_image_size(24)
    assert "random weights (untrained=true); its losses and gradients are meaningless" in caplog.text
    text = first.encode_text(["a cat, 2 dogs"])
    assert not any("not in the text model's vocabulary:" in note for note in text.notes[0])
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    for loss in first.losses(images, text, first.objectives).values():
        (gradient,) = torch.autograd.grad(loss.sum(), images, retain_graph=True)
        assert gradient.abs().max() > 0
    assert len(first.model.wordpiece) == 30_524
    with pytest.raises(UsageError, match="checkpoint or untrained, not both"):
        blip(checkpoint="x.pth", untrained=True)
