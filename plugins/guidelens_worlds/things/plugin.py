"""The things world as a guidelens plugin: generator, guidance model, metric, prompts, training commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.hookspecs import Register, RegisterStudies, hookimpl

from ..cli import WorldCommands, world_commands
from ..files import Variant
from ..prompts import Split
from .categories import Category
from .files import FILES

if TYPE_CHECKING:
    import click

    from ..world import World


def _world() -> World:
    from .definition import WORLD

    return WORLD


COMMANDS = WorldCommands(
    name="things",
    about="""The things world has emoji artwork on simple grounds, 64x64 pixels. guidelens includes
    a small generator and BLIP for it.""",
    example="'a camel in the desert' or 'a blue dog next to a red car on the street at night'",
    categories=get_args(Category),
    files=FILES,
    load=_world,
    images=800_000,
    pair_share=0.2,
    relation_share=0.3,
)


def _generator(weights: Path | None = None) -> Generator:
    """Load the included UNet, or one from ``weights``.

    :param weights: a file of ``guidelens things train-generator``, instead of the included one.
    """
    return FILES.load_generator(weights)


def _guidance(
    variant: Variant = "x0",
    weights: Path | None = None,
    itm: Literal["nll", "margin"] = "nll",
    label_smoothing: float = 0.0,
    clean: bool = True,
) -> GuidanceModel:
    """Load the included BLIP, or one from ``weights``.

    :param variant: ``x0`` was also trained on x0 predictions of the generator, ``clean`` on rendered pictures only.
    :param weights: a file of ``guidelens things train-blip``, instead of an included one.
    :param itm: ``nll``: -log p(match). ``margin``: the difference of the logits, which does not saturate.
    :param label_smoothing: share of CAP's target probability that is spread over the vocabulary.
    :param clean: clean prompts as BLIP's training cleaned its captions: lower case, without ``.!"()*#:;~``.
    """
    return FILES.load_blip(variant, weights=weights, itm=itm, label_smoothing=label_smoothing, clean=clean)


def _metric(details: bool = False) -> Metric:
    """Scores of what a picture shows of its prompt.

    :param details: also binding where there was something to bind.
    """
    from .metrics import ThingsMetric

    return ThingsMetric(details)


def _prompts(
    category: Category = "demo", limit: int | None = None, seed: int = 0, split: Split = "test"
) -> Sequence[Prompt]:
    """Captions of the things world.

    :param category: ``demo`` is four fixed prompts, ``all`` is ``limit`` of each; ``misspellings`` and
        ``confusable`` keep the clean prompt as the reference that metrics use.
    :param limit: number of prompts; None: 20, or all of ``demo``.
    :param seed: the same seed draws the same prompts; a larger ``limit`` continues the list.
    :param split: ``test``, or ``sweep`` for prompts that never appear under ``test``.
    """
    from .prompts import PROMPTS

    return PROMPTS.draw(category, limit, seed, split)


@hookimpl
def register_generators(register: Register) -> None:
    register(
        "things",
        _generator,
        summary="guided-diffusion UNet for 64x64 scenes of emoji, included in guidelens",
        requires=("torch", "safetensors"),
    )


@hookimpl
def register_guidance_models(register: Register) -> None:
    register(
        "things",
        _guidance,
        summary="BLIP (ITC, ITM, CAP) for scenes of emoji, included in guidelens",
        requires=("torch", "safetensors", "tokenizers"),
    )


@hookimpl
def register_metrics(register: Register) -> None:
    register(
        "things", _metric, summary="ground truth of emoji scenes: alignment, realism, binding, relations"
    )


@hookimpl
def register_prompt_sets(register: Register) -> None:
    register("things", _prompts, summary="captions of emoji scenes, by category")


@hookimpl
def register_studies(register: RegisterStudies) -> None:
    register(
        "findings-things",
        Path(__file__).parent / "studies" / "findings-things.toml",
        summary="the paper's claims on the things world, 25 minutes",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.add_command(world_commands(COMMANDS))
