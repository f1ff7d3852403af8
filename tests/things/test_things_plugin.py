"""The things plugin: what it registers, and the commands of ``guidelens things``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.diffusion import DiffusionProcess, alphas_cumprod_of, beta_schedule
from guidelens.pictures import to_tensor
from guidelens.plugins import PluginManager
from guidelens.studies.expand import expand
from guidelens.studies.file import parse_study
from guidelens.studies.run import plugin_component_cache
from guidelens_worlds.things.definition import WORLD
from guidelens_worlds.things.language import read, true_of
from guidelens_worlds.things.metrics import ThingsMetric
from guidelens_worlds.things.parse import parse
from guidelens_worlds.training import generator
from guidelens_worlds.training.generator import GeneratorTraining, train_generator
from guidelens_worlds.training.pictures import draw_pictures
from PIL import Image
from safetensors.torch import load_file


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["things", *map(str, args)])


def test_components() -> None:
    manager = PluginManager.load(environment={})
    offered = {(c.kind, c.name): c for c in manager.plugin("things").components}
    assert set(offered) == {(kind, "things") for kind in ("generator", "guidance", "metric", "prompts")}
    assert not any(component.default for component in offered.values())
    assert isinstance(manager.build("metric", "things"), ThingsMetric)
    assert len(manager.build("prompts", "things:category=place,limit=3")) == 3


def test_prompts_are_printed_one_a_line() -> None:
    result = run("prompts", "--category", "confusable", "--limit", 4)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 4


@pytest.mark.parametrize("sentence", ["a camel in the desert", "two large blue fish", "a cat on a house"])
def test_draw_shows_what_the_sentence_says(sentence: str, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    result = run("draw", sentence, "--out", out)
    assert result.exit_code == 0, result.output
    description = read(sentence)
    assert description is not None
    with Image.open(out) as image:
        assert true_of(description, parse(to_tensor(image).numpy()).scene)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("draw", "a red circle", "--out", "x.png"), "'a red circle' is not a sentence of the things world"),
        (("draw", "a cat", "--out", "x.jpg"), "--out x.jpg: the file name must end in .png"),
        (("train-generator", "--out", "x", "--images", "3"), "--images 3 is less than one batch of 32"),
    ],
)
def test_usage_errors(args: tuple[str, ...], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def tiny() -> dict:
    return {
        "image_size": 64,
        "in_channels": 3,
        "model_channels": 32,
        "out_channels": 3,
        "num_res_blocks": 1,
        "attention_resolutions": [],
        "channel_mult": [1, 1],
        "use_scale_shift_norm": True,
        "conv_resample": False,
    }


def test_training_draws_this_world_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    settings = GeneratorTraining(unet=tiny(), images=8, batch_size=2)

    def stop(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    whole = train_generator(tmp_path / "whole", settings, WORLD, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_generator(tmp_path / "part", settings, WORLD, save_every=1, progress=stop)
    resumed = train_generator(tmp_path / "part", settings, WORLD, save_every=1)
    weights, again = load_file(whole), load_file(resumed)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_the_generator_alone_chooses_the_world(tmp_path: Path) -> None:
    args = ["--generator", "things", "--limit", "1", "--schedule", "cap", "--seeds", "1", "--steps", "1"]
    result = CliRunner().invoke(cli, ["compare", *args, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["guidance"]["name"] == "things"
    (row,) = map(json.loads, (tmp_path / "run" / "results.jsonl").read_text().splitlines())
    assert row["prompt"] == "a camel in the desert"


def test_a_study_takes_the_guidance_of_each_generator() -> None:
    study = parse_study(
        'name = "two"\ngenerator = ["shapes", "things"]\nprompts = ["a cat"]\nschedules = ["cap"]\nseeds = 1\nsteps = 1'
    )
    plugins = PluginManager.load(environment={})
    cells = expand(study, plugins, plugin_component_cache(plugins, "cpu")).members
    assert [(cell["generator"], cell["guidance"]) for cell in cells] == [
        ("shapes", "shapes"),
        ("things", "things"),
    ]


def test_train_and_evaluate_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelens_worlds.things.definition.WORLD", replace(WORLD, unet=tiny()))
    result = run("train-generator", "--out", tmp_path / "gen", "--images", 4, "--batch-size", 2)
    assert result.exit_code == 0, result.output
    weights = tmp_path / "gen" / "generator.safetensors"
    assert result.stdout == f"weights: {weights}\n"
    generator = PluginManager.load(environment={}).build("generator", f"things:weights={weights}")
    assert generator.image_shape == (3, 64, 64)
    assert generator.prediction == "v"
    result = run("evaluate-generator", "--weights", weights, "--count", 2, "--steps", 2)
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["samples"] == 2
    assert 0 <= scores["good"] <= scores["ground_read"] <= 1
    assert sum(scores["things"].values()) == 2


def test_pictures_are_drawn_by_the_seed_alone() -> None:
    import random

    first, second = (draw_pictures(WORLD, random.Random(3), 4) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 64, 64)
    assert first.abs().max() <= 1


class _Recorder(torch.nn.Module):
    """Predicts v = 0 and keeps what it was given."""

    def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        self.given = x_t, timesteps
        return torch.zeros_like(x_t)


@pytest.mark.parametrize("noisy_steps", [False, True])
def test_the_loss_of_the_generator(noisy_steps: bool) -> None:
    process = DiffusionProcess(alphas_cumprod_of(beta_schedule("cosine")))
    settings = GeneratorTraining(unet=tiny(), batch_size=512, noisy_steps=noisy_steps)
    model = _Recorder()
    loss = generator._loss(model, process, settings, 7, WORLD)  # type: ignore[arg-type]
    x_t, timesteps = model.given
    x0 = draw_pictures(WORLD, generator.step_rngs(settings.seed, 7)[0], 512)
    abar = process.alphas_cumprod[timesteps].double()[:, None, None, None]
    error = (abar.sqrt() * x_t - x0).square()  # with v = 0, x0 is predicted as sqrt(abar) x_t
    weight = 1 / (1 - abar)
    assert torch.allclose(loss.double(), ((weight.clamp(max=5) if noisy_steps else weight) * error).mean())
    late = (timesteps >= 700).double().mean()
    assert abs(late - (1 - 0.7 ** (1 / 0.6) if noisy_steps else 0.3)) < 0.07  # three standard deviations
    assert 0 <= timesteps.min() < timesteps.max() < 1000
