"""BLIP's files: round trips, the published form, and errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blip_models import sharing, with_momentum
from guidelens.errors import GuidelensError
from guidelens_blip import BlipConfig, BlipGuidance, build_blip, load_blip, save_blip
from guidelens_blip.checkpoint import interpolate_positions, load_state, shared_groups
from safetensors import safe_open
from torch.testing import assert_close

OBJECTIVES = ("itc", "itm", "cap")


def test_a_trainable_model_trains(model, images) -> None:
    assert model.training
    model.visual_encoder(images).sum().backward()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.visual_encoder.pos_embed.grad is not None


def test_config_round_trip_and_errors(config: BlipConfig) -> None:
    assert BlipConfig.from_json(config.to_json()) == config
    for text, message in (
        ("{", "not valid JSON"),
        ("[1]", "JSON object"),
        ('{"widht": 3}', "unknown entries: widht"),
        ('{"vision_depth": 2.5}', "vision_depth must be a positive integer, not 2.5"),
        ('{"image_size": 100}', "image_size 100 is not a multiple of patch_size 16"),
        ('{"max_txt_len": 600}', r"max_txt_len must be in 3\.\.512"),
        ('{"dropout": "much"}', "wrong type"),
        ('{"image_std": [0, 1, 1]}', "image_std must be positive"),
    ):
        with pytest.raises(GuidelensError, match=message):
            BlipConfig.from_json(text)


@pytest.fixture
def saved(model, config, vocab, tmp_path: Path) -> Path:
    (tmp_path / config.vocab_file).write_text(vocab.read_text())
    save_blip(model, config, tmp_path / "blip.safetensors")
    return tmp_path / "blip.safetensors"


def assert_same_losses(first: BlipGuidance, second: BlipGuidance, images: torch.Tensor) -> None:
    prompts = ["a red circle", "blue square", "large"]
    a = first.losses(images, first.encode_text(prompts), OBJECTIVES)
    b = second.losses(images, second.encode_text(prompts), OBJECTIVES)
    assert_close(a, b, rtol=0, atol=0)


def test_safetensors_round_trip(saved: Path, model, config, images) -> None:
    before = torch.get_rng_state()
    loaded = load_blip(saved)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.config == config
    assert sharing(loaded.model) == sharing(model)
    assert loaded.fingerprint == BlipGuidance(model, config).fingerprint
    assert_same_losses(loaded, BlipGuidance(model, config), images)


def test_shared_tensors_are_stored_once(saved: Path, model) -> None:
    with safe_open(str(saved), framework="pt") as file:
        names = set(file.keys())
    assert "text_encoder.encoder.layer.0.crossattention.self.query.weight" in names
    assert "text_decoder.bert.encoder.layer.0.crossattention.self.query.weight" not in names
    assert "text_decoder.bert.encoder.layer.0.attention.self.query.weight" in names
    assert "text_decoder.cls.predictions.decoder.weight" not in names
    assert not any(name.endswith("position_ids") for name in names)
    stored = sum(parameter.numel() for parameter in model.parameters()) * 4
    assert stored < saved.stat().st_size < stored * 1.3


def test_half_precision_files(saved: Path, model, config, images) -> None:
    small = saved.with_name("half.safetensors")
    save_blip(model, config, small, dtype=torch.float16)
    assert small.stat().st_size < saved.stat().st_size * 0.6
    loaded = load_blip(small)
    assert loaded.dtype == torch.float32
    assert_close(loaded.model.itm_head.weight, model.itm_head.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_published_form(model, config, vocab, images, tmp_path: Path, zipped: bool) -> None:
    """The published files hold every name, momentum encoders and queues too, under "model"."""
    path = tmp_path / "model.pth"
    content = {"model": with_momentum(model.state_dict()), "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded = load_blip(path, vocab=vocab, config=config)
    assert_same_losses(loaded, BlipGuidance(model, config), images)


def test_the_bias_that_the_decoder_reads_wins(model, config, vocab) -> None:
    """Resizing a BERT head leaves its first name for the bias behind, at the old length."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["text_decoder.cls.predictions.bias"] = torch.zeros(3)
    fresh = build_blip(config, vocab)
    load_state(fresh, state)
    assert torch.equal(
        fresh.text_decoder.cls.predictions.bias, state["text_decoder.cls.predictions.decoder.bias"]
    )


def test_other_image_sizes_interpolate_positions(saved: Path, model) -> None:
    loaded = load_blip(saved, image_size=24)
    assert loaded.config.image_size == 24
    positions, same = loaded.model.visual_encoder.pos_embed, model.visual_encoder.pos_embed
    assert positions.shape == (1, 37, 24)
    assert torch.equal(positions[:, 0], same[:, 0])
    assert_close(positions[:, 1:].mean(), same[:, 1:].mean(), rtol=0.3, atol=0.05)
    assert interpolate_positions(same, same) is same


def test_foreign_checkpoints_are_described(model, config, vocab, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    state = dict(model.state_dict())
    del state["itm_head.weight"], state["itm_head.bias"], state["temp"], state["vision_proj.bias"]
    state["vqa_head.weight"] = torch.zeros(2)
    state["text_proj.weight"] = torch.zeros(5, 32)
    torch.save(state, path)
    with pytest.raises(GuidelensError) as caught:
        load_blip(path, vocab=vocab, config=config)
    message = str(caught.value)
    assert str(path) in message
    assert "missing (4): " in message
    assert "itm_head.weight" in message
    assert message.count("...") == 1
    assert "unexpected (1): vqa_head.weight" in message
    assert "shapes differ (1): text_proj.weight is 5x32 instead of 12x32" in message


def test_untied_weights_are_refused(model, config, vocab, tmp_path: Path) -> None:
    path = tmp_path / "untied.pth"
    state = dict(model.state_dict())
    name = "text_decoder.bert.encoder.layer.1.output.dense.weight"
    state[name] = state[name] + 1
    torch.save(state, path)
    with pytest.raises(GuidelensError, match=r"layer\.1\.output\.dense\.weight differ, but BLIP shares them"):
        load_blip(path, vocab=vocab, config=config)


def test_unreadable_checkpoints_are_named(saved: Path, vocab, config, tmp_path: Path) -> None:
    with pytest.raises(GuidelensError, match=r"no BLIP checkpoint at .*absent.pth.*weights fetch blip-base"):
        load_blip(tmp_path / "absent.pth")
    for name, content in (("a.safetensors", b"rubbish"), ("a.pth", b"rubbish"), ("b.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GuidelensError, match=f"cannot read .*{name} as a BLIP checkpoint: ."):
            load_blip(tmp_path / name, vocab=vocab, config=config)
    (tmp_path / "cut.safetensors").write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(GuidelensError, match="cannot read"):
        load_blip(tmp_path / "cut.safetensors")
    for payload in ([1, 2], {}, {"model": {"a": 1}}, {3: torch.zeros(1)}):
        torch.save(payload, tmp_path / "other.pth")
        with pytest.raises(GuidelensError, match="no table of named tensors"):
            load_blip(tmp_path / "other.pth", vocab=vocab, config=config)


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path, vocab, config) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(GuidelensError, match="damaged or holds more than plain weights"):
        load_blip(tmp_path / "trap.pth", vocab=vocab, config=config)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_vocabulary_says_where_it_is_looked_for(saved: Path) -> None:
    (saved.parent / "vocab.txt").unlink()
    with pytest.raises(GuidelensError, match=r"give vocab=FILE, or copy the file to .*vocab.txt"):
        load_blip(saved)


def test_an_unwritable_target_is_named_and_leaves_nothing(model, config, tmp_path: Path) -> None:
    with pytest.raises(GuidelensError, match="cannot write the BLIP checkpoint"):
        save_blip(model, config, tmp_path / "absent" / "blip.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(GuidelensError, match="cannot write"):
        save_blip(model, config, tmp_path / "taken.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.safetensors"]


def test_groups_name_every_entry_once(model) -> None:
    names = [name for group in shared_groups(model.state_dict()) for name in group]
    assert sorted(names) == sorted(model.state_dict())
