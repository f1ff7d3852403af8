"""The shapes world as a guidelens plugin: generator, guidance model, metric, prompts, training commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.hookspecs import Register, RegisterStudies, hookimpl

from ..cli import WorldCommands, world_commands
from ..files import Variant
from ..prompts import Split
from .categories import Category, PairCategory
from .files import FILES

if TYPE_CHECKING:
    import click

    from ..world import World


def _world() -> World:
    from .definition import WORLD

    return WORLD


COMMANDS = WorldCommands(
    name="shapes",
    about="""The shapes world has coloured shapes on a plain background, 32x32 pixels. guidelens
    includes a small generator and BLIP for it.""",
    example="'a red circle above a large blue square on a pink background' or 'two small green triangles'",
    categories=get_args(Category),
    files=FILES,
    load=_world,
)


def _generator(weights: Path | None = None) -> Generator:
    """Load the included UNet, or one from ``weights``.

    :param weights: a file of ``guidelens shapes train-generator``, instead of the included one.
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
    :param weights: a file of ``guidelens shapes train-blip``, instead of an included one.
    :param itm: ``nll``: -log p(match). ``margin``: the difference of the logits, which does not saturate.
    :param label_smoothing: share of CAP's target probability that is spread over the vocabulary.
    :param clean: clean prompts as BLIP's training cleaned its captions: lower case, without ``.!"()*#:;~``.
    """
    return FILES.load_blip(variant, weights=weights, itm=itm, label_smoothing=label_smoothing, clean=clean)


def _metric(details: bool = False) -> Metric:
    """Build the metric.

    :param details: add recall by order and by size, details of the object named first, and ``binding_shown``.
    """
    from .metrics import ShapesMetric

    return ShapesMetric(details)


def _prompts(
    category: Category = "demo", limit: int | None = None, seed: int = 0, split: Split = "test"
) -> Sequence[Prompt]:
    from .prompts import PROMPTS

    return PROMPTS.draw(category, limit, seed, split)


def _pairs(category: PairCategory = "all", limit: int = 25, seed: int = 0) -> Sequence[Prompt]:
    """Rendered scenes with a right and a wrong caption, for ``guidelens probe``.

    :param category: ``colour`` and ``shape`` change one attribute, ``swap`` exchanges the colours of two objects,
        ``relation`` states the opposite relation.
    :param limit: number of pairs of each category.
    :param seed: draws scenes and captions.
    """
    from .caption_pairs import caption_pairs

    return caption_pairs(category, limit, seed)


@hookimpl
def register_generators(register: Register) -> None:
    register(
        "shapes",
        _generator,
        summary="guided-diffusion UNet for 32x32 coloured shapes, included in guidelens",
        requires=("torch", "safetensors"),
        default=True,
    )


@hookimpl
def register_guidance_models(register: Register) -> None:
    register(
        "shapes",
        _guidance,
        summary="BLIP (ITC, ITM, CAP) for coloured shapes, included in guidelens",
        requires=("torch", "safetensors", "tokenizers"),
        default=True,
    )


@hookimpl
def register_metrics(register: Register) -> None:
    register(
        "shapes",
        _metric,
        summary="ground truth: alignment, fidelity, binding, relations, counts",
        default=True,
    )


@hookimpl
def register_prompt_sets(register: Register) -> None:
    register("shapes", _prompts, summary="captions of coloured shapes, by category", default=True)
    register(
        "shapes-pairs",
        _pairs,
        summary="right and wrong captions of rendered scenes, for probe",
        default=False,
    )


@hookimpl
def register_studies(register: RegisterStudies) -> None:
    folder = Path(__file__).parent / "studies"
    register(
        "findings", folder / "findings.toml", summary="the paper's claims on the shapes world, 12 minutes"
    )
    register(
        "findings-quick",
        folder / "findings-quick.toml",
        summary="the paper's claims on the shapes world with few pictures, 2 minutes",
    )
    register(
        "presets",
        folder / "presets.toml",
        summary="published guidance methods compared, 96 pictures, 20 minutes",
    )
    register(
        "replication",
        folder / "replication.toml",
        summary="the study findings with other prompts and noise, 12 minutes",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.add_command(world_commands(COMMANDS))
