"""Checkpoints that do not fit: which heads they lack, which sizes disagree, which preset they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blip_models import published_vocabulary
from guidelens.errors import GuidelensError
from guidelens_blip import PRESETS, BlipConfig, build_blip, load_blip, save_blip
from guidelens_blip.diagnosis import advice, fitting_preset, sizes_of

HEADS = ("vision_proj", "text_proj", "itm_head", "temp")


def without(*prefixes: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


FINE_TUNED = {
    "retrieval": (without("text_decoder"), "no head for cap, as in checkpoints fine-tuned for retrieval"),
    "captioning": (
        without("text_encoder", *HEADS),
        "no head for itc, itm, as in checkpoints fine-tuned for captioning",
    ),
    "question answering": (
        without(*HEADS),
        "no head for itc, itm, as in checkpoints fine-tuned for question answering",
    ),
    "nlvr": (
        lambda state: without("text_decoder", *HEADS)(state) | {"cls_head.0.weight": torch.zeros(2, 2)},
        "no head for itc, itm, cap, as in checkpoints fine-tuned for NLVR or classification",
    ),
}


@pytest.mark.parametrize("task", FINE_TUNED)
def test_missing_heads_are_named(task: str, model, config, vocab, tmp_path: Path) -> None:
    change, message = FINE_TUNED[task]
    path = tmp_path / "tuned.pth"
    torch.save({"model": change(dict(model.state_dict()))}, path)
    with pytest.raises(GuidelensError) as caught:
        load_blip(path, vocab=vocab, config=config)
    assert str(path) in str(caught.value)
    assert f"{message}: a pretrained one has all three" in str(caught.value)


def test_a_whole_model_lacks_nothing_and_its_sizes_show(model, config: BlipConfig) -> None:
    state = model.state_dict()
    assert advice(config, state) == ""
    assert sizes_of(state) == {
        name: getattr(config, name)
        for name in (
            *("vision_width", "patch_size", "hidden_size", "intermediate_size", "max_positions", "embed_dim"),
            *("vision_depth", "text_layers", "image_size"),
        )
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patch_size": 8, "image_size": 32}, "patch_size is 8, the file has 4"),
        ({"vision_depth": 3}, "vision_depth is 3, the file has 2"),
        ({"vision_width": 30}, "vision_width is 30, the file has 24"),
        ({"text_layers": 1}, "text_layers is 1, the file has 2"),
        ({"embed_dim": 6, "intermediate_size": 64}, "embed_dim is 6, the file has 12"),
    ],
)
def test_sizes_that_disagree_are_named_with_the_preset_that_fits(
    model, config, vocab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int], told: str
) -> None:
    path = tmp_path / "model.pth"
    torch.save(model.state_dict(), path)
    wrong = replace(config, **change)
    monkeypatch.setitem(PRESETS, "base", config)  # type: ignore[arg-type]
    with pytest.raises(GuidelensError) as caught:
        load_blip(path, vocab=vocab, config=wrong)
    assert told in str(caught.value)
    assert str(caught.value).endswith("; give config=base")
    monkeypatch.setitem(PRESETS, "base", replace(config, max_positions=30))  # type: ignore[arg-type]
    with pytest.raises(GuidelensError) as caught:
        load_blip(path, vocab=vocab, config=wrong)
    assert "no preset fits, base is nearest and needs max_positions=20: give config=FILE.json" in str(
        caught.value
    )


def test_a_preset_is_recognised_by_its_shapes(
    model, config, vocab, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "large", config)  # type: ignore[arg-type]
    torch.save(model.state_dict(), tmp_path / "model.pth")
    loaded = load_blip(tmp_path / "model.pth", vocab=vocab)
    assert loaded.config == config


def test_shapes_alone_tell_large_from_base(tmp_path: Path) -> None:
    with torch.device("meta"):
        large = build_blip(PRESETS["large"], published_vocabulary(tmp_path)).state_dict()
    assert fitting_preset(large) == "large"
    assert advice(PRESETS["base"], large) == (
        "vision_width is 768, the file has 1024, vision_depth is 12, the file has 24; give config=large"
    )


def test_another_image_size_is_no_disagreement(model, config, vocab, tmp_path: Path) -> None:
    save_blip(model, config, tmp_path / "m.safetensors")
    assert advice(config.with_image_size(32), model.state_dict()) == ""
    assert load_blip(tmp_path / "m.safetensors", vocab=vocab, image_size=32).config.image_size == 32
