"""The commands of a world: prompts and pictures, and training and evaluation of its models.

Every command calls one library function, which is imported when the command runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from guidelens.errors import UsageError

from . import cli_guidance
from .command_tools import (
    FILE,
    FOLDER,
    JSON_OUT,
    POSITIVE,
    THREADS,
    check_init,
    check_json,
    check_steps,
    losses_text,
    options,
    peak_rate,
    prepare_folder,
    progress_bar,
    report,
    resumable,
    say,
    set_threads,
    weights_option,
)
from .files import WorldFiles
from .prompts import Split

if TYPE_CHECKING:
    from .world import World

MIN_PAIRS = 16
"""Smallest batch of image-text pairs. The matching loss needs, for every caption, a picture that contradicts it."""
MIN_EVALUATED = 200
"""With fewer held-out scenes there may be less than 100 distinct captions for a retrieval pool."""

_TRAINING = click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder of the training. If it holds a stopped training, that is resumed.",
)


@dataclass(frozen=True)
class WorldCommands:
    """What the commands of a world need before they run. Does not import numpy.

    :param name: name of the group of commands.
    :param about: what the world has, a paragraph of help.
    :param example: examples of its sentences, for an error.
    :param categories: names of the categories of its prompts.
    :param files: the files that are included in it.
    :param load: returns the world.
    :param images: default number of pictures to train the generator on.
    :param pair_share: default share of scenes of two kinds in the training of BLIP.
    :param relation_share: default share of these whose caption states the relation.
    """

    name: str
    about: str
    example: str
    categories: tuple[str, ...]
    files: WorldFiles
    load: Callable[[], World]
    images: int = 400_000
    pair_share: float = 0.0
    relation_share: float = 0.0


def world_commands(world: WorldCommands) -> click.Group:
    """Return the commands of a world as a group."""
    name = world.name
    text = f"""Prompts, pictures and training of the {name} world.

    {world.about}

    \b
    To train its models, run the following commands in this order. To resume a stopped
    training, run its command again.
      guidelens {name} train-generator --out gen
      guidelens {name} predict-x0 --generator gen/generator.safetensors --out x0.safetensors
      guidelens {name} train-blip --out sight --vision-only
      guidelens {name} train-blip --out blip --init sight/last.pt --x0 x0.safetensors --x0-share 0.4
    """
    group = click.Group(name, help=text)
    for make in (
        _draw,
        _prompts,
        _train_generator,
        _predict_x0,
        _train_blip,
        _evaluate_generator,
        _evaluate_blip,
    ):
        group.add_command(make(world))
    group.add_command(cli_guidance.sweep_command(name, world.files, world.load))
    group.add_command(cli_guidance.score_command(world.files, world.load))
    return group


def _draw(world: WorldCommands) -> click.Command:
    @click.command("draw")
    @click.argument("sentence")
    @click.option(
        "--out", type=FILE, required=True, help="The .png file to write. An existing file is replaced."
    )
    @_seed("Seed of the scene.")
    def draw(sentence: str, out: Path, seed: int) -> None:
        """Render a scene that SENTENCE describes.

        No model is involved: this is what a perfect generator would draw. What the sentence
        does not give, for example sizes and places, is random.
        """
        import random

        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: the file name must end in .png")
        loaded = world.load()
        language = loaded.language
        description = language.read(sentence)
        if description is None:
            raise UsageError(
                f"{sentence!r} is not a sentence of the {world.name} world; write, for example, {world.example}"
            )
        import torch
        from guidelens.files import write_file
        from guidelens.pictures import png_bytes, to_picture

        rng = random.Random(seed)
        scene = loaded.scene_for(description, rng)
        write_file(out, png_bytes(to_picture(torch.from_numpy(loaded.render(scene)))))
        click.echo(f"shown: {language.wording(language.describe(scene, rng, full=True))}")
        click.echo(f"picture: {out}")

    return draw


def _prompts(world: WorldCommands) -> click.Command:
    @click.command("prompts")
    @click.option(
        "--category",
        type=click.Choice(world.categories),
        default="demo",
        show_default=True,
        help="Category, after DrawBench. demo: four fixed prompts; all: --limit prompts of each category.",
    )
    @click.option("--limit", type=POSITIVE, help="Number of prompts.  [default: 20, or all of demo]")
    @_seed("Seed of the prompts.")
    @click.option(
        "--split",
        type=click.Choice(get_args(Split)),
        default="test",
        show_default=True,
        help="test: prompts for scores; sweep: prompts for choosing settings. No prompt is in both.",
    )
    def prompts(category: str, limit: int | None, seed: int, split: Split) -> None:
        """Print prompts, one per line."""
        for prompt in world.load().prompts.draw(category, limit, seed, split):
            click.echo(prompt.text)

    return prompts


def _train_generator(world: WorldCommands) -> click.Command:
    @click.command("train-generator", short_help="Train the UNet on rendered scenes.")
    @_TRAINING
    @click.option(
        "--images",
        type=POSITIVE,
        default=world.images,
        show_default=True,
        help="Number of pictures to train on.",
    )
    @click.option("--batch-size", type=POSITIVE, default=32, show_default=True, help="Pictures per step.")
    @_seed("Seed of weights, scenes and noise.")
    @peak_rate(1.5e-3)
    @click.option(
        "--init", type=FILE, help="Start from the averaged weights in the last.pt of an earlier training."
    )
    @click.option(
        "--noisy-steps", is_flag=True, help="Train more on noisy timesteps, where the things are decided."
    )
    @THREADS
    @click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Use torch.compile, which starts slowly and is then faster.",
    )
    def train_generator_command(
        out: Path, init: Path | None, threads: int | None, compiled: bool, **settings: Any
    ) -> None:
        """Train the UNet on rendered scenes and write OUT/generator.safetensors.

        The weights are written every 250 steps, so that you can try them before the end.
        """
        check_steps("images", settings["images"], settings["batch_size"])
        folder = prepare_folder(out, threads)
        from .training.generator import GeneratorTraining, train_generator

        if init is not None:
            check_init(init, "ema", "train-generator")
        loaded = world.load()
        with resumable(folder), progress_bar("steps") as update:
            path = train_generator(
                folder,
                GeneratorTraining(unet=dict(loaded.unet), **settings),
                loaded,
                init=init,
                progress=lambda done, total, loss: update(done, total, f"loss {loss:.4f}"),
                compiled=compiled,
            )
        click.echo(f"weights: {path}")

    return train_generator_command


def _predict_x0(world: WorldCommands) -> click.Command:
    @click.command("predict-x0", short_help="Write x0 predictions of the generator for noised scenes.")
    @weights_option("--generator", "weights", "generator")
    @click.option(
        "--out", type=FILE, required=True, help="The .safetensors file to write, for train-blip --x0."
    )
    @click.option("--count", type=POSITIVE, default=40_000, show_default=True, help="Number of predictions.")
    @_seed("Seed of scenes, timesteps and noise.", default=1)
    @THREADS
    def predict_x0(weights: Path | None, out: Path, count: int, seed: int, threads: int | None) -> None:
        """Write x0 predictions of the generator for noised scenes, at random timesteps.

        A guidance model sees such blurred pictures during sampling. train-blip can mix them
        into its pictures.
        """
        from guidelens.files import check_writable

        check_writable(out)
        set_threads(threads)
        from .training.x0 import predict_x0_set

        generator = world.files.load_generator(weights)
        with progress_bar("pictures") as update:
            predictions = predict_x0_set(
                world.load(), generator, count, seed, progress=lambda done, total: update(done, total, "")
            )
        predictions.save(out)
        click.echo(f"x0 predictions: {out}")

    return predict_x0


def _share(name: str, default: float, text: str) -> Callable[[Any], Any]:
    share = click.FloatRange(0.0, 1.0)
    return click.option(name, type=share, default=default, show_default=True, help=text)


def _seed(text: str, default: int = 0) -> Callable[[Any], Any]:
    return click.option("--seed", type=int, default=default, show_default=True, help=text)


def _blip_options(world: WorldCommands) -> Callable[[Any], Any]:
    kinds = "Share of rendered scenes that always show two kinds of objects."
    relations = "Share of scenes with two kinds whose caption states their relation."
    return options(
        _TRAINING,
        click.option(
            "--pairs",
            type=POSITIVE,
            default=400_000,
            show_default=True,
            help="Number of image-text pairs to train on.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=MIN_PAIRS),
            default=64,
            show_default=True,
            help="Pairs per step.",
        ),
        click.option(
            "--vision-only",
            is_flag=True,
            help="Train only the vision transformer, on dense labels. This is the first phase.",
        ),
        click.option("--init", type=FILE, help="Start from the last.pt of an earlier phase."),
        click.option("--x0", "x0_file", type=FILE, help="x0 predictions from predict-x0."),
        _share("--x0-share", 0.0, "Share of pictures that come from --x0."),
        _share("--degraded-share", 0.4, "Share of pictures that are blurred, faded and noised."),
        _share("--pair-share", world.pair_share, kinds),
        _share("--relation-share", world.relation_share, relations),
        peak_rate(1e-3),
        _seed("Seed of weights, scenes and captions."),
        THREADS,
    )


def _train_blip(world: WorldCommands) -> click.Command:
    @click.command("train-blip", short_help="Train BLIP on rendered scenes.")
    @_blip_options(world)
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
        loaded = world.load()
        x0 = None if x0_file is None else X0Set.load(loaded, x0_file)
        with resumable(folder), progress_bar("steps") as update:
            path = train_blip(
                folder,
                BlipTraining(config=asdict(loaded.blip), **settings),
                loaded,
                init=init,
                x0=x0,
                progress=lambda done, total, losses: update(done, total, losses_text(losses)),
            )
        click.echo(f"weights: {path}")

    return train_blip_command


def _evaluate_generator(world: WorldCommands) -> click.Command:
    @click.command("evaluate-generator", short_help="Print how many unguided samples the parser can read.")
    @weights_option("--weights", "weights", "generator")
    @click.option("--count", type=POSITIVE, default=500, show_default=True, help="Unconditional samples.")
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

        "good" is the share of samples with a known background of which the scene that was
        read explains at least 0.9.
        """
        check_json(out)
        set_threads(threads)
        from .evaluate import evaluate_generator

        generator = world.files.load_generator(weights)
        scores = evaluate_generator(world.load(), generator, count=count, steps=steps, progress=say)
        report({"generator": generator.fingerprint, **scores}, out)

    return evaluate_generator_command


def _evaluate_blip(world: WorldCommands) -> click.Command:
    @click.command("evaluate-blip")
    @weights_option("--weights", "weights", "BLIP")
    @click.option(
        "--generator",
        "generator_file",
        type=FILE,
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
        from .evaluate import evaluate_blip

        generator = None if clean_only else world.files.load_generator(generator_file)
        model = world.files.load_blip(weights=weights)
        scores = evaluate_blip(world.load(), model, generator, count=count, progress=say)
        names = {
            "blip": model.fingerprint,
            "generator": generator.fingerprint if generator is not None else None,
        }
        report({**names, "scenes": count, **scores}, out)

    return evaluate_blip_command
