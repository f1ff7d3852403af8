"""The things world as a guidelens plugin: generator, guidance model, metric, prompts, training commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, hookimpl

from ..prompts import Split
from .categories import Category

if TYPE_CHECKING:
    import click


def _generator(weights: Path | None = None) -> Generator:
    """The UNet of the things world.

    :param weights: a file of ``guidelens things train-generator``; none is shipped yet.
    """
    if weights is None:
        raise UsageError(
            "the things world ships no generator yet: run `guidelens things train-generator --out gen`, "
            "then give things:weights=gen/generator.safetensors"
        )
    from guidelens_guided_diffusion import load_generator

    return load_generator(weights)


def _guidance(
    weights: Path | None = None,
    itm: Literal["nll", "margin"] = "nll",
    label_smoothing: float = 0.0,
    clean: bool = True,
) -> GuidanceModel:
    """The BLIP of the things world.

    :param weights: a file of ``guidelens things train-blip``; none is shipped yet.
    :param itm: ``nll`` is -log p(match); ``margin`` the difference of the logits, which does not saturate.
    :param label_smoothing: share of CAP's target probability spread over the vocabulary.
    :param clean: read prompts in lower case and without ``.!"()*#:;~``, as BLIP's training did with its captions.
    """
    if weights is None:
        raise UsageError(
            "the things world ships no BLIP yet: run `guidelens things train-blip --out blip`, "
            "then give things:weights=blip/blip.safetensors"
        )
    from guidelens_blip import BlipOptions, load_blip

    from .pairs import VOCAB

    options = BlipOptions(itm_mode=itm, label_smoothing=label_smoothing, clean=clean)
    return load_blip(weights, vocab=VOCAB, options=options)


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
        summary="guided-diffusion UNet, 64x64 emoji scenes; weights not shipped yet",
        requires=("torch", "safetensors"),
    )


@hookimpl
def register_guidance_models(register: Register) -> None:
    register(
        "things",
        _guidance,
        summary="BLIP (ITC, ITM, CAP) for emoji scenes; weights not shipped yet",
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
def register_commands(cli: click.Group) -> None:
    from .cli import things

    cli.add_command(things)
