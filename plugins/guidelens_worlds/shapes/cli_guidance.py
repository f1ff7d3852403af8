"""``guidelens shapes sweep`` and ``score``: scores of guided sampling, by scale and by schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from guidelens import PluginManager
from guidelens.cli.paths import UserPath
from guidelens.errors import UsageError

from .command_tools import JSON_OUT, THREADS, check_json, report, say, set_threads

_FILE = UserPath(path_type=Path, dir_okay=False)
_DTYPE = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Precision of the networks.",
)
_GENERATOR = click.option(
    "--generator", type=_FILE, help="Weights of the generator.  [default: the included ones]"
)
_BLIP = click.option("--blip", type=_FILE, help="Weights of the BLIP.  [default: the included ones]")
_VARIANT = click.option(
    "--variant",
    type=click.Choice(["x0", "clean"]),
    default="x0",
    show_default=True,
    help="Variant of the included BLIP.",
)


def _complete_schedule(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    plugins = ctx.find_object(PluginManager)
    names = [info.name for info in plugins.components("schedule")] if plugins is not None else []
    return [name for name in names if name.startswith(incomplete)]


@click.command("sweep", short_help="Try scales of each objective.")
@click.option(
    "--scale",
    "scales",
    multiple=True,
    required=True,
    metavar="OBJECTIVE=C,C,...",
    help="Scales c_k to try. Repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Number of prompts per category.",
)
@click.option("--steps", type=click.IntRange(1, 1000), default=50, show_default=True, help="Sampling steps.")
@_GENERATOR
@_BLIP
@_VARIANT
@_DTYPE
@JSON_OUT
@THREADS
def sweep(
    scales: tuple[str, ...],
    limit: int,
    steps: int,
    generator: Path | None,
    blip: Path | None,
    variant: str,
    dtype: str,
    out: Path | None,
    threads: int | None,
) -> None:
    """Draw single-object and positional prompts of the sweep split at each scale, for one objective at a time.

    \b
    Example:
      guidelens shapes sweep --scale itc=300,1000,3000 --scale cap=100,300 --limit 16
    """
    grid = dict(_parse_scales(text) for text in scales)
    check_json(out)
    set_threads(threads)
    from .training.sweep import sweep_scales

    models = _models(generator, blip, variant)
    report({"rows": sweep_scales(*models, grid, limit=limit, steps=steps, dtype=dtype, progress=say)}, out)


@click.command("score", short_help="Score schedules at the default scales.")
@click.option("--category", "categories", multiple=True, default=("single", "positional"), show_default=True)
@click.option(
    "--schedule",
    "schedules",
    multiple=True,
    default=("itc", "itm", "cap", "shift", "blend"),
    show_default=True,
    metavar="SPEC",
    shell_complete=_complete_schedule,
    help="Schedules to score. Repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Number of prompts per category.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Number of seeds per prompt."
)
@click.option("--steps", type=click.IntRange(1, 1000), default=50, show_default=True, help="Sampling steps.")
@_GENERATOR
@_BLIP
@_VARIANT
@_DTYPE
@JSON_OUT
@THREADS
@click.pass_context
def score(
    ctx: click.Context,
    categories: tuple[str, ...],
    schedules: tuple[str, ...],
    limit: int,
    seeds: int,
    steps: int,
    generator: Path | None,
    blip: Path | None,
    variant: str,
    dtype: str,
    out: Path | None,
    threads: int | None,
) -> None:
    """Draw prompts of the test split with each schedule at the default scales, and print mean scores."""
    check_json(out)
    set_threads(threads)
    plugins = ctx.find_object(PluginManager)
    assert plugins is not None  # loaded before the command line was parsed
    built = {spec: plugins.build("schedule", spec) for spec in schedules}
    from .training.sweep import score_guidance

    models = _models(generator, blip, variant)
    scores: dict[str, Any] = {"prompts": limit, "seeds": seeds, "steps": steps, "dtype": dtype}
    for category in categories:
        scores[category] = score_guidance(
            *models,
            built,
            category=category,
            limit=limit,
            seeds=range(seeds),
            steps=steps,
            dtype=dtype,
            progress=say,
        )
    report(scores, out)


def _parse_scales(text: str) -> tuple[str, list[float]]:
    name, equals, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if not equals or not numbers:
        raise UsageError(f"--scale {text!r}: write OBJECTIVE=C,C,... such as itc=300,1000")
    return name, numbers


def _models(generator: Path | None, blip: Path | None, variant: str) -> tuple[Any, Any]:
    from guidelens_guided_diffusion import load_generator

    from .files import GENERATOR
    from .guidance import load_guidance

    return load_generator(generator or GENERATOR), load_guidance(variant, weights=blip)  # type: ignore[arg-type]
