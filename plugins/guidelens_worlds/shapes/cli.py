"""``guidelens shapes``: prompts and pictures of the shapes world, and training and evaluation of its models.

Every command calls one library function, which is imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from guidelens.cli.paths import UserPath
from guidelens.errors import UsageError

from .categories import Category, Split
from .command_tools import (
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

MIN_PAIRS = 16
"""Smallest batch of image-text pairs. The matching loss needs, for every caption, a picture that contradicts it."""
MIN_EVALUATED = 200
"""With fewer held-out scenes there may be less than 100 distinct captions for a retrieval pool."""

_FILE = UserPath(path_type=Path, dir_okay=False)
_FOLDER = UserPath(path_type=Path, file_okay=False)
_POSITIVE = click.IntRange(min=1)
_SHARE = click.FloatRange(0.0, 1.0)


@click.group()
def shapes() -> None:
    """Prompts, pictures and training of the shapes world.

    The shapes world has coloured shapes on a plain background, 32x32 pixels. guidelens
    includes a small generator and BLIP for it.

    \b
    To train these models, run the following commands in this order. To resume a stopped
    training, run its command again.
      guidelens shapes train-generator --out gen
      guidelens shapes predict-x0 --generator gen/generator.safetensors --out x0.safetensors
      guidelens shapes train-blip --out sight --vision-only
      guidelens shapes train-blip --out blip --init sight/last.pt --x0 x0.safetensors --x0-share 0.4
    """


@shapes.command("draw")
@click.argument("sentence")
@click.option(
    "--out", type=_FILE, required=True, help="The .png file to write. An existing file is replaced."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the scene.")
def draw_command(sentence: str, out: Path, seed: int) -> None:
    """Render a scene that SENTENCE describes.

    No model is involved: this is what a perfect generator would draw. Sizes, places and
    background are random where the sentence does not give them.
    """
    import random

    from guidelens.files import write_file
    from guidelens.pictures import png_bytes, to_picture

    from .compose import scene_for
    from .language import describe, read, wording

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the file name must end in .png")
    description = read(sentence)
    if description is None:
        raise UsageError(
            f"{sentence!r} is not a sentence of the shapes world; write, for example, "
            "'a red circle above a large blue square on a pink background' or 'two small green triangles'"
        )
    rng = random.Random(seed)
    scene = scene_for(description, rng)
    import torch

    from .world import render

    write_file(out, png_bytes(to_picture(torch.from_numpy(render(scene)))))
    click.echo(f"shown: {wording(describe(scene, rng, full=True))}")
    click.echo(f"picture: {out}")


@shapes.command("prompts")
@click.option(
    "--category",
    type=click.Choice(get_args(Category)),
    default="demo",
    show_default=True,
    help="Category, after DrawBench. demo: four fixed prompts; all: --limit prompts of each category.",
)
@click.option("--limit", type=_POSITIVE, help="Number of prompts.  [default: 20, or all of demo]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the prompts.")
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    default="test",
    show_default=True,
    help="test: prompts for scores; sweep: prompts for choosing settings. No prompt is in both.",
)
def prompts_command(category: Category, limit: int | None, seed: int, split: Split) -> None:
    """Print prompts, one per line."""
    from .prompts import shapes_prompts

    for prompt in shapes_prompts(category, limit, seed, split):
        click.echo(prompt.text)


@shapes.command("train-generator", short_help="Train the UNet on rendered scenes.")
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    help="Folder of the training. If it holds a stopped training, that is resumed.",
)
@click.option(
    "--images", type=_POSITIVE, default=400_000, show_default=True, help="Number of pictures to train on."
)
@click.option("--batch-size", type=_POSITIVE, default=32, show_default=True, help="Pictures per step.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, scenes and noise.")
@click.option(
    "--peak-rate",
    type=click.FloatRange(0, min_open=True),
    default=1.5e-3,
    show_default=True,
    help="Highest learning rate.",
)
@click.option(
    "--init", type=_FILE, help="Start from the averaged weights in the last.pt of an earlier training."
)
@THREADS
@click.option(
    "--compile", "compiled", is_flag=True, help="Use torch.compile, which starts slowly and is then faster."
)
def train_generator_command(
    out: Path, init: Path | None, threads: int | None, compiled: bool, **settings: Any
) -> None:
    """Train the UNet on rendered scenes and write OUT/generator.safetensors."""
    check_steps("images", settings["images"], settings["batch_size"])
    folder = prepare_folder(out, threads)
    from .training.generator import GeneratorTraining, train_generator

    if init is not None:
        check_init(init, "ema", "train-generator")
    with resumable(folder), progress_bar("steps") as update:
        path = train_generator(
            folder,
            GeneratorTraining(**settings),
            init=init,
            progress=lambda done, total, loss: update(done, total, f"loss {loss:.4f}"),
            compiled=compiled,
        )
    click.echo(f"weights: {path}")


@shapes.command("predict-x0", short_help="Write x0 predictions of the generator for noised scenes.")
@click.option(
    "--generator", "weights", type=_FILE, help="Weights of the generator.  [default: the included ones]"
)
@click.option("--out", type=_FILE, required=True, help="The .safetensors file to write, for train-blip --x0.")
@click.option("--count", type=_POSITIVE, default=40_000, show_default=True, help="Number of predictions.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of scenes, timesteps and noise.")
@THREADS
def predict_x0_command(weights: Path | None, out: Path, count: int, seed: int, threads: int | None) -> None:
    """Write x0 predictions of the generator for noised scenes, at random timesteps.

    A guidance model sees such blurred pictures during sampling. train-blip can mix them
    into its pictures.
    """
    from guidelens.files import check_writable

    check_writable(out)
    set_threads(threads)
    from .training.x0 import predict_x0_set

    generator = _load_generator(weights)
    with progress_bar("pictures") as update:
        predictions = predict_x0_set(
            generator, count, seed, progress=lambda done, total: update(done, total, "")
        )
    predictions.save(out)
    click.echo(f"x0 predictions: {out}")


@shapes.command("train-blip", short_help="Train BLIP on rendered scenes.")
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    help="Folder of the training. If it holds a stopped training, that is resumed.",
)
@click.option(
    "--pairs",
    type=_POSITIVE,
    default=400_000,
    show_default=True,
    help="Number of image-text pairs to train on.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=MIN_PAIRS), default=64, show_default=True, help="Pairs per step."
)
@click.option(
    "--vision-only",
    is_flag=True,
    help="Train only the vision transformer, on dense labels. This is the first phase.",
)
@click.option("--init", type=_FILE, help="Start from the last.pt of an earlier phase.")
@click.option("--x0", "x0_file", type=_FILE, help="x0 predictions from predict-x0.")
@click.option(
    "--x0-share", type=_SHARE, default=0.0, show_default=True, help="Share of pictures that come from --x0."
)
@click.option(
    "--degraded-share",
    type=_SHARE,
    default=0.4,
    show_default=True,
    help="Share of pictures that are blurred, faded and noised.",
)
@click.option(
    "--pair-share",
    type=_SHARE,
    default=0.0,
    show_default=True,
    help="Share of rendered scenes that always show two kinds of objects.",
)
@click.option(
    "--relation-share",
    type=_SHARE,
    default=0.0,
    show_default=True,
    help="Share of scenes with two kinds whose caption states their relation.",
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
        raise UsageError("--x0 FILE and --x0-share above 0 need each other: give both, or neither")
    folder = prepare_folder(out, threads)
    from .training.blip import BlipTraining, train_blip
    from .training.x0 import X0Set

    if init is not None:
        check_init(init, "averaged", "train-blip")
    x0 = None if x0_file is None else X0Set.load(x0_file)
    with resumable(folder), progress_bar("steps") as update:
        path = train_blip(
            folder,
            BlipTraining(**settings),
            init=init,
            x0=x0,
            progress=lambda done, total, losses: update(done, total, losses_text(losses)),
        )
    click.echo(f"weights: {path}")


@shapes.command("evaluate-generator", short_help="Print how many unguided samples the parser can read.")
@click.option("--weights", type=_FILE, help="Weights of the generator.  [default: the included ones]")
@click.option("--count", type=_POSITIVE, default=500, show_default=True, help="Unconditional samples.")
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Sampling steps (DDPM).",
)
@JSON_OUT
@THREADS
def evaluate_generator_command(
    weights: Path | None, count: int, steps: int, out: Path | None, threads: int | None
) -> None:
    """Draw samples without guidance, and print how many the parser can read.

    "good" is the share of samples with a fidelity of at least 0.9 and a background of
    the palette.
    """
    check_json(out)
    set_threads(threads)
    from .training.evaluate import evaluate_generator

    generator = _load_generator(weights)
    scores = evaluate_generator(generator, count=count, steps=steps, progress=say)
    report({"generator": generator.fingerprint, **scores}, out)


@shapes.command("evaluate-blip")
@click.option("--weights", type=_FILE, help="Weights of the BLIP.  [default: the included ones]")
@click.option(
    "--generator",
    "generator_file",
    type=_FILE,
    help="Weights of the generator of x0 predictions.  [default: the included ones]",
)
@click.option("--clean-only", is_flag=True, help="Do not evaluate on x0 predictions.")
@click.option(
    "--count",
    type=click.IntRange(min=MIN_EVALUATED),
    default=2000,
    show_default=True,
    help="Number of held-out scenes of each kind.",
)
@JSON_OUT
@THREADS
def evaluate_blip_command(
    weights: Path | None,
    generator_file: Path | None,
    clean_only: bool,
    count: int,
    out: Path | None,
    threads: int | None,
) -> None:
    """Evaluate a BLIP on held-out scenes.

    Measures zero-shot naming by each head, matching against hard negatives, retrieval and
    captions. Naming is also measured on x0 predictions of the generator, by timestep.
    """
    if clean_only and generator_file is not None:
        raise UsageError(
            "--generator and --clean-only exclude each other: --clean-only makes no x0 predictions"
        )
    check_json(out)
    set_threads(threads)
    from guidelens_blip import load_blip

    from .files import BLIP, VOCAB
    from .training.evaluate import evaluate_blip

    generator = None if clean_only else _load_generator(generator_file)
    model = load_blip(weights or BLIP, vocab=VOCAB)
    scores = evaluate_blip(model, generator, count=count, progress=say)
    names = {"blip": model.fingerprint, "generator": generator.fingerprint if generator is not None else None}
    report({**names, "scenes": count, **scores}, out)


def _load_generator(weights: Path | None) -> Any:
    from guidelens_guided_diffusion import load_generator

    from .files import GENERATOR

    return load_generator(weights or GENERATOR)
