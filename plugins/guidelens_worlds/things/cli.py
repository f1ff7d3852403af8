"""``guidelens things``: prompts and pictures of the things world, and the training of its models.

Every command calls one library function, which is imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from guidelens.cli.paths import UserPath
from guidelens.errors import UsageError

from ..prompts import Split
from ..shapes import (
    JSON_OUT,
    THREADS,
    check_init,
    check_json,
    check_steps,
    losses_text,
    prepare_folder,
    progress_bar,
    report,
    resumable,
    say,
    set_threads,
)
from .categories import Category

IMAGES = 800_000

_FILE = UserPath(path_type=Path, dir_okay=False)
_FOLDER = UserPath(path_type=Path, file_okay=False)
_POSITIVE = click.IntRange(min=1)
_SHARE = click.FloatRange(0.0, 1.0)


@click.group()
def things() -> None:
    """Prompts, pictures and trainings of the things world.

    Emoji artwork on simple grounds, 64x64 pixels. Its weights are not shipped yet.

    \b
    How its models are trained, in this order; a training that was stopped goes on when
    its command is run again:
      guidelens things train-generator --out gen
      guidelens things predict-x0 --generator gen/generator.safetensors --out x0.safetensors
      guidelens things train-blip --out sight --vision-only
      guidelens things train-blip --out blip --init sight/last.pt --x0 x0.safetensors --x0-share 0.4
    """


@things.command("draw")
@click.argument("sentence")
@click.option("--out", type=_FILE, required=True, help="The picture, a .png; an existing one is replaced.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses among the true scenes.")
def draw_command(sentence: str, out: Path, seed: int) -> None:
    """Render a scene of which SENTENCE is true.

    No model is involved: this is what a perfect generator would draw. What the sentence
    leaves open (sizes, places, ground, sky) is random.
    """
    import random

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the file name must end in .png")
    from .language import describe, read, wording

    description = read(sentence)
    if description is None:
        raise UsageError(
            f"{sentence!r} is not a sentence of the things world; it reads, for instance, "
            "'a camel in the desert' or 'a blue dog next to a red car on the street at night'"
        )
    import torch
    from guidelens.files import write_file
    from guidelens.pictures import png_bytes, to_picture

    from .compose import scene_for
    from .world import render

    rng = random.Random(seed)
    scene = scene_for(description, rng)
    write_file(out, png_bytes(to_picture(torch.from_numpy(render(scene)))))
    click.echo(f"shown: {wording(describe(scene, rng, full=True))}")
    click.echo(f"picture: {out}")


@things.command("prompts")
@click.option(
    "--category",
    type=click.Choice(get_args(Category)),
    default="demo",
    show_default=True,
    help="Kind of prompt, after DrawBench; demo is four fixed prompts, all is --limit of each kind.",
)
@click.option("--limit", type=_POSITIVE, help="Number of prompts.  [default: 20, or all of demo]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same prompts.")
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    default="test",
    show_default=True,
    help="test for scores, sweep for choosing settings; no prompt is in both.",
)
def prompts_command(category: Category, limit: int | None, seed: int, split: Split) -> None:
    """Print prompts, one per line."""
    from .prompts import PROMPTS

    for prompt in PROMPTS.draw(category, limit, seed, split):
        click.echo(prompt.text)


@things.command("train-generator", short_help="Train the UNet on rendered scenes.")
@click.option(
    "--out", type=_FOLDER, required=True, help="Folder of the training; one that holds it resumes it."
)
@click.option("--images", type=_POSITIVE, default=IMAGES, show_default=True, help="Pictures to train on.")
@click.option("--batch-size", type=_POSITIVE, default=32, show_default=True, help="Pictures per step.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, scenes and noise.")
@click.option(
    "--peak-rate",
    type=click.FloatRange(0, min_open=True),
    default=1.5e-3,
    show_default=True,
    help="Highest learning rate.",
)
@THREADS
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile: faster after a slow start.")
def train_generator_command(out: Path, threads: int | None, compiled: bool, **settings: Any) -> None:
    """Train the UNet on rendered scenes and write OUT/generator.safetensors.

    The default takes about eight hours on two idle cores. The weights are written every
    250 steps, so that what there is can be tried meanwhile.
    """
    check_steps("images", settings["images"], settings["batch_size"])
    folder = prepare_folder(out, threads)
    from ..shapes import train_generator
    from .training import draw_things, generator_training

    with resumable(folder), progress_bar("steps") as update:
        path = train_generator(
            folder,
            generator_training(**settings),
            draw=draw_things,
            progress=lambda done, total, loss: update(done, total, f"loss {loss:.4f}"),
            save_every=250,
            compiled=compiled,
        )
    click.echo(f"weights: {path}")


@things.command("evaluate-generator", short_help="Measure how many unguided samples can be read.")
@click.option("--weights", type=_FILE, required=True, help="Weights of the generator.")
@click.option("--count", type=_POSITIVE, default=500, show_default=True, help="Unconditional samples.")
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Sampling steps of each (DDPM).",
)
@JSON_OUT
@THREADS
def evaluate_generator_command(
    weights: Path, count: int, steps: int, out: Path | None, threads: int | None
) -> None:
    """Draw samples without guidance and read them.

    "good" is the share with a realism of at least 0.9 and a ground of the world.
    """
    check_json(out)
    set_threads(threads)
    from guidelens_guided_diffusion import load_generator

    from .evaluate import evaluate_generator

    generator = load_generator(weights)
    scores = evaluate_generator(generator, count=count, steps=steps, progress=say)
    report({"generator": generator.fingerprint, **scores}, out)


@things.command("predict-x0", short_help="Predict x0 of noised scenes with the generator.")
@click.option("--generator", "weights", type=_FILE, required=True, help="Weights of the generator.")
@click.option("--out", type=_FILE, required=True, help="The .safetensors to write, for train-blip --x0.")
@click.option("--count", type=_POSITIVE, default=40_000, show_default=True, help="How many predictions.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of scenes, timesteps and noise.")
@THREADS
def predict_x0_command(weights: Path, out: Path, count: int, seed: int, threads: int | None) -> None:
    """Let the generator predict x0 of noised scenes, at random timesteps.

    These blurred pictures are what a guidance model is shown during sampling; train-blip
    mixes them in.
    """
    from guidelens.files import check_writable

    check_writable(out)
    set_threads(threads)
    from guidelens_guided_diffusion import load_generator

    from ..shapes import predict_x0_set
    from .pairs import picture
    from .world import random_scene

    generator = load_generator(weights)
    with progress_bar("pictures") as update:
        predictions = predict_x0_set(
            generator,
            count,
            seed,
            random_scene=random_scene,
            picture=picture,
            progress=lambda done, total: update(done, total, ""),
        )
    predictions.save(out)
    click.echo(f"x0 predictions: {out}")


@things.command("train-blip", short_help="Train BLIP on rendered scenes.")
@click.option(
    "--out", type=_FOLDER, required=True, help="Folder of the training; one that holds it resumes it."
)
@click.option(
    "--pairs", type=_POSITIVE, default=400_000, show_default=True, help="Image-text pairs to train on."
)
@click.option(
    "--batch-size", type=click.IntRange(min=16), default=64, show_default=True, help="Pairs per step."
)
@click.option(
    "--vision-only", is_flag=True, help="Train the vision transformer alone, on dense labels; comes first."
)
@click.option("--init", type=_FILE, help="Start from a last.pt of an earlier phase.")
@click.option("--x0", "x0_file", type=_FILE, help="x0 predictions that predict-x0 wrote.")
@click.option(
    "--x0-share", type=_SHARE, default=0.0, show_default=True, help="Share of pictures taken from --x0."
)
@click.option(
    "--degraded-share",
    type=_SHARE,
    default=0.4,
    show_default=True,
    help="Share of pictures blurred, faded and noised.",
)
@click.option(
    "--pair-share",
    type=_SHARE,
    default=0.2,
    show_default=True,
    help="Share of rendered scenes that show two kinds for certain.",
)
@click.option(
    "--relation-share",
    type=_SHARE,
    default=0.3,
    show_default=True,
    help="Share of scenes of two kinds whose caption is about their relation.",
)
@click.option(
    "--peak-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Highest learning rate.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, scenes and captions.")
@THREADS
def train_blip_command(
    out: Path, init: Path | None, x0_file: Path | None, threads: int | None, **settings: Any
) -> None:
    """Train BLIP (ITC, ITM, LM) on rendered scenes and write OUT/blip.safetensors."""
    check_steps("pairs", settings["pairs"], settings["batch_size"])
    if (x0_file is None) != (settings["x0_share"] == 0):
        raise UsageError("--x0 FILE and --x0-share above 0 go together: which predictions, and what share")
    folder = prepare_folder(out, threads)
    from ..shapes import X0Set, train_blip
    from .pairs import BLIP_WORLD
    from .training import blip_training
    from .world import random_scene

    if init is not None:
        check_init(init, "averaged", "train-blip")
    x0 = None if x0_file is None else X0Set.load(x0_file, random_scene)
    with resumable(folder), progress_bar("steps") as update:
        path = train_blip(
            folder,
            blip_training(**settings),
            world=BLIP_WORLD,
            init=init,
            x0=x0,
            progress=lambda done, total, losses: update(done, total, losses_text(losses)),
        )
    click.echo(f"weights: {path}")


@things.command("evaluate-blip")
@click.option("--weights", type=_FILE, required=True, help="Weights of the BLIP.")
@click.option(
    "--count", type=_POSITIVE, default=1000, show_default=True, help="Held-out scenes of each kind."
)
@JSON_OUT
@THREADS
def evaluate_blip_command(weights: Path, count: int, out: Path | None, threads: int | None) -> None:
    """Judge a BLIP on held-out scenes.

    Reports zero-shot naming by each head, and matching against false captions.
    """
    check_json(out)
    set_threads(threads)
    from guidelens_blip import load_blip

    from .evaluate_blip import evaluate_blip
    from .pairs import VOCAB

    model = load_blip(weights, vocab=VOCAB)
    report({"blip": model.fingerprint, **evaluate_blip(model, count=count, progress=say)}, out)
