"""``guidelens things``: prompts and pictures of the things world, and the training of its generator.

Every command is thin over a library function, imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from guidelens.errors import UsageError
from guidelens_shapes import (
    JSON_OUT,
    THREADS,
    check_json,
    check_steps,
    prepare_folder,
    progress_bar,
    report,
    resumable,
    say,
    set_threads,
)

from ..prompts import Split
from .categories import Category

IMAGES = 800_000

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_POSITIVE = click.IntRange(min=1)


@click.group()
def things() -> None:
    """Prompts, pictures and trainings of the things world.

    Emoji artwork on simple grounds, 64x64 pixels. Its weights are not shipped yet.

    \b
    How its generator is trained; a training that was stopped goes on when its command is
    run again:
      guidelens things train-generator --out gen
      guidelens things evaluate-generator --weights gen/generator.safetensors
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
        raise UsageError(f"--out {out}: the picture is a .png")
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
    help="Kind of prompt, after DrawBench; demo is four fixed prompts, all is -n of each kind.",
)
@click.option("-n", "--n", "n", type=_POSITIVE, help="How many prompts.  [default: 20, or all of demo]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same prompts.")
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    default="test",
    show_default=True,
    help="test for scores, sweep for choosing settings; no prompt is in both.",
)
def prompts_command(category: Category, n: int | None, seed: int, split: Split) -> None:
    """Print prompts, one a line."""
    from .prompts import PROMPTS

    for prompt in PROMPTS.draw(category, n, seed, split):
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
    from guidelens_shapes import train_generator

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
