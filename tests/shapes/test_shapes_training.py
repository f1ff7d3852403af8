"""The trainings: interrupted = uninterrupted, foreign folders refused, dense labels and x0 sets against
plain code."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.errors import GuidelensError
from guidelens_blip import BlipConfig, build_blip
from guidelens_blip.tokenizer import tokenize
from guidelens_worlds.shapes.definition import WORLD
from guidelens_worlds.shapes.world import COLOURS, SHAPES, SIZES, Scene, coverage, random_scene, render
from guidelens_worlds.training.blip import BlipTraining, train_blip
from guidelens_worlds.training.common import Ema, learning_rate, step_seed
from guidelens_worlds.training.generator import GeneratorTraining, train_generator
from guidelens_worlds.training.pairs import CaptionIds, patch_targets
from guidelens_worlds.training.pictures import degrade
from guidelens_worlds.training.x0 import X0Set, predict_x0_set
from pictures import scenes
from safetensors.torch import load_file
from torch import Tensor, nn

GENERATOR = GeneratorTraining(
    images=10, batch_size=2, warmup=2, unet={**WORLD.unet, "channel_mult": [1], "attention_resolutions": []}
)
BLIP = BlipTraining(
    pairs=80,
    batch_size=16,
    warmup=2,
    config=asdict(
        BlipConfig(
            image_size=32,
            patch_size=8,
            vision_width=16,
            vision_depth=1,
            vision_heads=2,
            hidden_size=16,
            text_layers=1,
            text_heads=2,
            intermediate_size=16,
            max_positions=48,
            embed_dim=8,
            max_txt_len=40,
            dropout=0.0,
        )
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fit_generator(folder: Path, progress: Callable[..., None] | None = None, **changes: Any) -> Path:
    return train_generator(folder, replace(GENERATOR, **changes), WORLD, progress=progress, save_every=2)


def fit_blip(folder: Path, progress: Callable[..., None] | None = None, **changes: Any) -> Path:
    x0 = X0Set(
        WORLD, torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(20), seed=3
    )
    return train_blip(folder, replace(BLIP, **changes), WORLD, x0=x0, progress=progress, save_every=2)


def stop_after(step: int) -> Callable[..., None]:
    def progress(done: int, *_: Any) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(("fit", "changes"), [(fit_generator, {}), (fit_blip, {"x0_share": 0.25})])
def test_interrupted_is_uninterrupted(
    tmp_path: Path, fit: Callable[..., Path], changes: dict[str, Any]
) -> None:
    """Bit for bit: stopped between two checkpoints and again at the very first step, against one go."""
    whole = load_file(fit(tmp_path / "whole", **changes))
    for step in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", stop_after(step), **changes)
    parts = load_file(fit(tmp_path / "parts", **changes))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name
    state = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
    assert state["step"] == 5
    assert not list((tmp_path / "parts").glob("*.tmp"))


def test_live_blip_weights_survive_an_interruption(tmp_path: Path) -> None:
    """Also of the parts that only training needs, and of the optimizer."""
    fit_blip(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_blip(tmp_path / "parts", stop_after(3))
    fit_blip(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / d / "last.pt", weights_only=True) for d in ("whole", "parts"))
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name
    assert "patch_head.weight" in whole["model"]
    for index, moments in whole["optimizer"]["state"].items():
        assert torch.equal(moments["exp_avg"], parts["optimizer"]["state"][index]["exp_avg"])


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    path = fit_generator(tmp_path)
    before = path.read_bytes()

    def progress(*_: Any) -> None:
        raise AssertionError("trained on")

    assert fit_generator(tmp_path, progress) == path
    assert path.read_bytes() == before


def test_seeds_give_other_weights(tmp_path: Path) -> None:
    first, second = (load_file(fit_generator(tmp_path / str(s), images=2, seed=s)) for s in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("fit", "first", "second"),
    [
        (fit_generator, {"images": 2}, {"images": 2, "seed": 7}),
        (fit_generator, {"images": 2}, {"images": 4}),
        (fit_blip, {"pairs": 16, "vision_only": True}, {"pairs": 16}),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused(
    tmp_path: Path, fit: Callable[..., Path], first: dict[str, Any], second: dict[str, Any]
) -> None:
    fit(tmp_path, **first)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(GuidelensError, match=r"holds a training with \w+=.*choose another folder"):
        fit(tmp_path, **second)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_phase_starts_from_the_average_of_the_one_before(tmp_path: Path) -> None:
    """With a learning rate of next to nothing the weights stay where ``init`` put them."""
    fit_blip(tmp_path / "sight", pairs=32, vision_only=True, peak_rate=0.1)
    init = tmp_path / "sight" / "last.pt"
    path = train_blip(tmp_path / "blip", replace(BLIP, pairs=16, peak_rate=1e-12), WORLD, init=init)
    first, second = load_file(tmp_path / "sight" / "blip.safetensors"), load_file(path)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6, msg=name)
    assert not torch.equal(
        first["visual_encoder.patch_embed.proj.weight"],
        build_blip(BlipConfig(**BLIP.config), WORLD.files.vocab).state_dict()[
            "visual_encoder.patch_embed.proj.weight"
        ],
    )


def test_the_losses_fall(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    fit_blip(tmp_path, lambda done, total, losses: seen.append(dict(losses)), pairs=30 * 16, vision_only=True)
    assert set(seen[0]) == {"dense"}
    assert seen[-1]["dense"] < seen[0]["dense"]  # a running mean, so it trails


def test_learning_rate() -> None:
    assert [learning_rate(s, 100, 2.0, 4) for s in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert learning_rate(4, 100, 2.0, 4) == 2.0
    assert learning_rate(52, 100, 2.0, 4) == pytest.approx(1.0)
    assert learning_rate(100, 100, 2.0, 4) == pytest.approx(0.0)


def test_ema() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([parameter], decay=0.5)
    parameter.data.fill_(3.0)
    ema.update(step=0)  # warm-up: decay (1 + 0) / (10 + 0)
    assert ema.average[0].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    ema.update(step=1000)
    assert ema.average[0].item() == pytest.approx(0.5 * 2.8 + 0.5 * 3)
    with ema.averaged():
        assert (parameter.item(), ema.average[0].item()) == pytest.approx((2.9, 3.0))
    assert (parameter.item(), ema.average[0].item()) == pytest.approx((3.0, 2.9))


# --- labels and pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [8, 4])
def test_patch_targets_against_a_plain_loop(grid: int) -> None:
    shown = scenes(12, seed=0)
    labels, centres = patch_targets(WORLD.labels, shown, grid)
    side = 32 // grid
    for i, scene in enumerate(shown):
        for row in range(grid):
            for column in range(grid):
                best, winner = 0.2, None
                for item in scene.items:
                    alpha = coverage(item.shape, item.x, item.y, item.radius)
                    share = alpha[row * side : (row + 1) * side, column * side : (column + 1) * side].mean()
                    if share > best:
                        best, winner = share, item
                label, centre = (
                    labels[i, row * grid + column].tolist(),
                    centres[i, row * grid + column].tolist(),
                )
                if winner is None:
                    assert label == [len(COLOURS), len(SHAPES), len(SIZES)]
                    assert centre == [0, 0]
                    continue
                kinds = (
                    tuple(COLOURS).index(winner.colour),
                    SHAPES.index(winner.shape),
                    list(SIZES).index(winner.size),
                )
                assert label == list(kinds)
                assert centre == pytest.approx([(winner.x - 15.5) / 8, (winner.y - 15.5) / 8], abs=1e-5)


def test_degraded_pictures_differ_and_stay_in_reach() -> None:
    images = torch.stack([torch.from_numpy(render(scene)) for scene in scenes(32, seed=1)])
    before = images.clone()
    worn = degrade(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)
    assert torch.equal(worn, degrade(images, torch.Generator().manual_seed(0)))
    assert ((worn - images).abs().amax((1, 2, 3)) > 0.01).all()
    torch.testing.assert_close(worn.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=0.06)


def test_caption_ids_are_the_tokenizer_s() -> None:
    blip = build_blip(BlipConfig(**BLIP.config), WORLD.files.vocab)
    captions = ["a red circle, a white cross and a black square", "two yellwo triangles on a pink background"]
    ids, mask = CaptionIds(blip.wordpiece, 40)(captions)
    expected = tokenize(blip.wordpiece, captions, 40)
    assert torch.equal(ids, expected.itc)
    assert torch.equal(mask, expected.mask)
    assert blip.wordpiece.unk not in ids


# --- x0 sets ------------------------------------------------------------------------------------------------


class Echo:
    """A generator that takes its input for x0."""

    image_shape = (3, 32, 32)
    prediction = "x0"
    learned_variance = False
    fingerprint = "echo"
    alphas_cumprod = alphas_cumprod_of(beta_schedule("cosine"))

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return x_t


def test_an_x0_set_shows_its_scenes() -> None:
    """At t = 0 the echo of x_t is the picture itself, nearly."""
    made = predict_x0_set(WORLD, Echo(), 10, seed=5, timesteps=(0, 0), batch_size=4)
    for i in range(10):
        np.testing.assert_allclose(made.images[i].float(), render(made.scene(i)), atol=0.05)
    single = predict_x0_set(WORLD, Echo(), 4, seed=5, timesteps=(0, 0), num_items=1)
    assert all(len(single.scene(i).items) == 1 for i in range(4))


def test_x0_sets_are_reproducible() -> None:
    first, second, other = (predict_x0_set(WORLD, Echo(), 12, seed=s) for s in (5, 5, 6))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.timesteps, second.timesteps)
    assert not torch.equal(first.images, other.images)
    assert first.timesteps.unique().numel() > 6
    # Noisier at later timesteps, as x_t is.
    noisy = predict_x0_set(WORLD, Echo(), 4, seed=5, timesteps=(900, 900)).images.float()
    assert ((noisy - torch.from_numpy(render(first.scene(0)))) ** 2).mean() > 0.3


def test_x0_sets_are_drawn_with_their_scenes() -> None:
    made = predict_x0_set(WORLD, Echo(), 8, seed=5, timesteps=(0, 0))
    shown, images = made.draw(random.Random(0), 20)
    for scene, image in zip(shown, images, strict=True):
        np.testing.assert_allclose(image, render(scene), atol=0.05)
    assert len({id(scene) for scene in shown}) == 20


def test_x0_sets_survive_a_file(tmp_path: Path) -> None:
    made = predict_x0_set(WORLD, Echo(), 3, seed=8, num_items=2)
    made.save(tmp_path / "x0.safetensors")
    loaded = X0Set.load(WORLD, tmp_path / "x0.safetensors")
    assert torch.equal(loaded.images, made.images)
    assert torch.equal(loaded.timesteps, made.timesteps)
    assert [loaded.scene(i) for i in range(3)] == [made.scene(i) for i in range(3)]
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    for name in ("bad.safetensors", "absent.safetensors"):
        with pytest.raises(GuidelensError, match=r"cannot read .* as a set of x0 predictions"):
            X0Set.load(WORLD, tmp_path / name)


def test_steps_have_seeds_of_their_own() -> None:
    assert len({step_seed(seed, step) for seed in range(20) for step in range(500)}) == 10_000
    assert isinstance(random_scene(random.Random(step_seed(1, 2))), Scene)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    for content in (b"", b"no checkpoint"):
        (tmp_path / "last.pt").write_bytes(content)
        with pytest.raises(
            GuidelensError, match=r"cannot read the training in .*: it is not a PyTorch file, "
        ):
            train_generator(tmp_path, GENERATOR, WORLD)
    torch.save({"some": "thing"}, tmp_path / "last.pt")
    with pytest.raises(GuidelensError, match=r"last\.pt is not the state of a training: choose another"):
        train_generator(tmp_path, GENERATOR, WORLD)
