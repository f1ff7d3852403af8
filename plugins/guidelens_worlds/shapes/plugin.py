"""The shapes world as a guidelens plugin: generator, guidance model, metric, prompts, training commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.hookspecs import Register, RegisterStudies, hookimpl

from .categories import Category, PairCategory, Split

if TYPE_CHECKING:
    import click


def _generator(weights: Path | None = None) -> Generator:
    """Load the included UNet, or one from ``weights``.

    :param weights: a file of ``guidelens shapes train-generator``, instead of the included one.
    """
    from guidelens_guided_diffusion import load_generator

    from .files import GENERATOR

    return load_generator(weights or GENERATOR)


def _guidance(
    variant: Literal["x0", "clean"] = "x0",
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
    from .guidance import load_guidance

    return load_guidance(variant, weights=weights, itm=itm, label_smoothing=label_smoothing, clean=clean)


def _metric(details: bool = False) -> Metric:
    """Build the metric.

    :param details: add recall by order and by size, details of the object named first, and ``binding_shown``.
    """
    from .metrics import ShapesMetric

    return ShapesMetric(details)


def _prompts(
    category: Category = "demo", limit: int | None = None, seed: int = 0, split: Split = "test"
) -> Sequence[Prompt]:
    from .prompts import shapes_prompts

    return shapes_prompts(category, limit, seed, split)


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
    from .cli import shapes
    from .cli_guidance import score, sweep

    shapes.add_command(sweep)
    shapes.add_command(score)
    cli.add_command(shapes)
