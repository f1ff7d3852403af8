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


OF_NO_USE = {
    "question answering": (
        without(*HEADS),
        "no head for itc, itm, as in checkpoints fine-tuned for question answering",
    ),
    "nlvr": (
        lambda state: without("text_decoder", *HEADS)(state) | {"cls_head.0.weight": torch.zeros(2, 2)},
        "no head for itc, itm, cap, as in checkpoints fine-tuned for NLVR or classification",
    ),
}


@pytest.mark.parametrize("task", OF_NO_USE)
def test_missing_heads_are_named(task: str, model, config, vocab, tmp_path: Path) -> None:
    change, message = OF_NO_USE[task]
    path = tmp_path / "tuned.pth"
    torch.save({"model": change(dict(model.state_dict()))}, path)
    with pytest.raises(GuidelensError) as caught:
        load_blip(path, vocab=vocab, config=config)
    assert str(path) in str(caught.value)
    assert f"{message}; a pretrained checkpoint has all three" in str(caught.value)


def in_transformers_names(state: dict[str, Any]) -> dict[str, Any]:
    """The image encoder as transformers' conversion of the original checkpoints names it."""
    pairs = (
        ("visual_encoder.blocks.", "vision_model.encoder.layers."),
        ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
        ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
        ("visual_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
        ("visual_encoder.norm.", "vision_model.post_layernorm."),
        (".attn.qkv.", ".self_attn.qkv."),
        (".attn.proj.", ".self_attn.projection."),
        (".norm1.", ".layer_norm1."),
        (".norm2.", ".layer_norm2."),
    )
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    assert not any(name.startswith("visual_encoder") for name in renamed)
    return renamed


FINE_TUNED = {
    "retrieval": (without("text_decoder"), {"itc", "itm"}),
    "captioning": (without("text_encoder", *HEADS), {"cap"}),
    "pretrained": (dict, {"itc", "itm", "cap"}),
}


@pytest.mark.parametrize("names", ["LAVIS", "transformers", "wrapped"])
@pytest.mark.parametrize("task", FINE_TUNED)
def test_a_checkpoint_offers_the_heads_it_has(
    task: str, names: str, model, blip, config, vocab, images, prompts, tmp_path: Path, caplog
) -> None:
    change, objectives = FINE_TUNED[task]
    state = change(dict(model.state_dict()))
    if task == "retrieval":
        state |= {"idx_queue": torch.zeros(1, 8), "ptr_queue": torch.zeros(1, dtype=torch.long)}
    if names == "transformers":
        folder = tmp_path / "folder"
        folder.mkdir()
        torch.save(in_transformers_names(state), folder / "pytorch_model.bin")
        path = folder
    else:
        path = tmp_path / "tuned.pth"
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"model": wrapped if names == "wrapped" else state, "epoch": 5}, path)
    loaded = load_blip(path, vocab=vocab, config=config)
    assert loaded.objectives == objectives
    assert ("it offers" in caplog.text) == (task != "pretrained")
    ours = loaded.losses(images, loaded.encode_text(prompts), objectives)
    theirs = blip.losses(images, blip.encode_text(prompts), objectives)
    for name in objectives:
        torch.testing.assert_close(ours[name], theirs[name])


def test_lavis_needs_all_heads_and_nan_is_named(model, config, vocab, tmp_path: Path) -> None:
    path = tmp_path / "tuned.pth"
    torch.save(without("text_decoder")(dict(model.state_dict())), path)
    with pytest.raises(GuidelensError, match="has heads for itc, itm, but LAVIS's network needs all three"):
        load_blip(path, vocab=vocab, config=config, backend="lavis")
    state = dict(model.state_dict())
    state["itm_head.weight"] = torch.full_like(state["itm_head.weight"], float("nan"))
    torch.save(state, path)
    with pytest.raises(
        GuidelensError, match=r"holds NaN or infinite weights: .* numbers of itm_head\.weight"
    ):
        load_blip(path, vocab=vocab, config=config)
    with pytest.raises(GuidelensError, match=r"holds no model\.safetensors or pytorch_model\.bin"):
        load_blip(tmp_path, vocab=vocab, config=config)
    ours = dict(model.state_dict())
    torch.save({"model": ours, "ema": {name: tensor.clone() for name, tensor in ours.items()}}, path)
    with pytest.raises(GuidelensError, match="choose with key=NAME"):
        load_blip(path, vocab=vocab, config=config)
    assert load_blip(path, vocab=vocab, config=config, key="ema").objectives == {"itc", "itm", "cap"}


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
    assert "no preset fits (nearest: base, with max_positions=20); give config=FILE.json" in str(caught.value)


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
