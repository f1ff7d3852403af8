"""Image-text pairs of the things world, the labels of patches, and the training of a BLIP on them."""

from __future__ import annotations

import json
import random
import string
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager
from guidelens_worlds.description import Description
from guidelens_worlds.evaluate import held_out_scenes
from guidelens_worlds.things.definition import WORLD
from guidelens_worlds.things.files import FILES
from guidelens_worlds.things.language import read, true_of
from guidelens_worlds.things.vocabulary import NATURAL, THINGS
from guidelens_worlds.things.world import Item, Scene, random_scene
from guidelens_worlds.training.pairs import draw_pairs, patch_targets, place_labels
from guidelens_worlds.training.pictures import draw_scenes


def test_true_captions_are_true_and_false_ones_are_false() -> None:
    rng = random.Random(0)
    scenes, images = draw_scenes(WORLD, rng, 48, 0.5)
    assert images.shape == (48, 3, 64, 64)
    assert sum(len(scene.items) == 2 for scene in scenes) >= 24
    pairs = draw_pairs(WORLD, rng, scenes, images, 0.5)
    assert pairs.truth.diagonal().all()
    assert pairs.truth.float().mean() < 0.2
    misspelt = 0
    for j, (caption, false) in enumerate(zip(pairs.captions, pairs.false_captions, strict=True)):
        wrong, right = read(false), read(caption)
        assert wrong is not None
        assert not true_of(wrong, scenes[j])
        misspelt += right is None
        if right is not None:
            assert [true_of(right, scene) for scene in scenes] == pairs.truth[:, j].tolist()
    assert misspelt < 12


def test_the_vocabulary_has_every_word_of_a_caption() -> None:
    entries = FILES.vocab.read_text(encoding="utf-8").split()
    words = set(entries)
    assert len(words) == len(entries)
    assert words >= {f"{mark}{letter}" for letter in string.ascii_lowercase for mark in ("", "##")}
    rng = random.Random(1)
    for _ in range(40):
        pairs = draw_pairs(WORLD, rng, *draw_scenes(WORLD, rng, 16))
        used = {word.strip(",") for text in pairs.false_captions for word in text.split()}
        assert used <= words, used - words


def test_patches_are_labelled_with_what_is_in_front() -> None:
    bear, ball = Item("bear", NATURAL, 36, 8, 16), Item("ball", "blue", 24, 16, 32)
    labels, centres = patch_targets(WORLD.labels, [Scene("snow", "day", 30, (bear, ball))], 8)
    grid = labels[0].view(8, 8, 3)
    names = list(THINGS)
    assert grid[5, 3].tolist() == [names.index("ball"), 4, 0], "blue, small"
    assert grid[3, 3].tolist() == [names.index("bear"), 0, 1], "natural, large"
    assert grid[0, 7].tolist() == [len(THINGS), 6, 2], "nothing"
    assert centres[0].view(8, 8, 2)[5, 3].tolist() == [(ball.x - 32) / 16, (ball.y - 32) / 16]


def test_places_are_ground_and_sky_together() -> None:
    scenes = [Scene(g, s, 30, ()) for g in ("desert", "street") for s in ("day", "night")]
    assert place_labels(WORLD, scenes).tolist() == [0, 1, 8, 9]
    assert len(WORLD.places) == 10


def test_every_single_kind_has_one_name() -> None:
    prompts = [WORLD.language.wording(Description((kind,))) for kind in WORLD.kinds]
    assert len(set(prompts)) == len(prompts) == 56
    assert {"a cat", "a blue cat", "a camel"} <= set(prompts)


def run(*args: str | Path) -> str:
    result = CliRunner().invoke(cli, ["things", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_from_a_generator_to_a_guidance_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands in the order of the help: each takes what the one before wrote."""
    flags = {"image_size": 64, "in_channels": 3, "model_channels": 32, "out_channels": 3, "num_res_blocks": 1}
    flags |= {"attention_resolutions": [], "channel_mult": [1, 1], "use_scale_shift_norm": True}
    monkeypatch.setattr("guidelens_worlds.things.definition.WORLD", replace(WORLD, unet=flags))
    run("train-generator", "--out", tmp_path / "gen", "--images", 2, "--batch-size", 2)
    weights = tmp_path / "gen" / "generator.safetensors"
    run("predict-x0", "--generator", weights, "--out", tmp_path / "x0.safetensors", "--count", 24)
    run("train-blip", "--out", tmp_path / "sight", "--vision-only", "--pairs", 32, "--batch-size", 16)
    mixed = ("--x0", tmp_path / "x0.safetensors", "--x0-share", 0.5, "--init", tmp_path / "sight" / "last.pt")
    run("train-blip", "--out", tmp_path / "blip", "--pairs", 32, "--batch-size", 16, *mixed)
    blip = tmp_path / "blip" / "blip.safetensors"
    model = PluginManager.load(environment={}).build("guidance", f"things:weights={blip}")
    assert model.config == WORLD.blip
    losses = model.losses(torch.zeros(2, 3, 64, 64), model.encode_text(["a cat", "a dog"]), ["itc", "cap"])
    assert losses["itc"].isfinite().all()
    scores = json.loads(run("evaluate-blip", "--weights", blip, "--count", 200, "--clean-only"))
    assert scores["generator"] is None
    assert set(scores["naming_clean"]) >= {"itc", "itm", "cap", "itc_thing"}
    assert set(scores) >= {f"itm_{kind}" for kind in ("true", "thing", "sky")}


def test_held_out_scenes_are_not_those_of_training() -> None:
    held = held_out_scenes(WORLD, 20, 0)
    assert held == held_out_scenes(WORLD, 20, 0)
    assert held[0] != random_scene(random.Random(0))
