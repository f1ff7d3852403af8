"""The commands ``sweep`` and ``score`` of a world: scores of guided sampling, by scale and by schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from guidelens import PluginManager
from guidelens.errors import UsageError

from .command_tools import (
    JSON_OUT,
    POSITIVE,
    THREADS,
    check_json,
    options,
    report,
    say,
    set_threads,
    weights_option,
)
from .files import Variant, WorldFiles

if TYPE_CHECKING:
    from .world import World

_DTYPE = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Precision of the networks.",
)
_STEPS = click.option(
    "--steps", type=click.IntRange(1, 1000), default=50, show_default=True, help="Sampling steps."
)
_VARIANT = click.option(
    "--variant",
    type=click.Choice(get_args(Variant)),
    default="x0",
    show_default=True,
    help="Variant of the included BLIP.",
)


def _limit(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--limit", type=POSITIVE, default=default, show_default=True, help="Number of prompts per category."
    )


def _common(files: WorldFiles) -> Callable[[Any], Any]:
    """Return the options that both commands have: steps, models, precision, output, threads."""
    models = (
        weights_option("--generator", "generator", "generator"),
        weights_option("--blip", "blip", "BLIP"),
    )
    return options(_STEPS, *models, _VARIANT, _DTYPE, JSON_OUT, THREADS)


def _complete_schedule(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    plugins = ctx.find_object(PluginManager)
    names = [info.name for info in plugins.components("schedule")] if plugins is not None else []
    return [name for name in names if name.startswith(incomplete)]


def sweep_command(name: str, files: WorldFiles, load: Callable[[], World]) -> click.Command:
    """Return the command that tries scales of objectives."""

    example = f"guidelens {name} sweep --scale itc=300,1000,3000 --scale cap=100,300 --limit 16"
    text = f"""Draw single-object and positional prompts of the sweep split at each scale, for one objective at a time.

    \b
    Example:
      {example}
    """

    @click.command("sweep", help=text, short_help="Try scales of each objective.")
    @click.option(
        "--scale",
        "scales",
        multiple=True,
        required=True,
        metavar="OBJECTIVE=C,C,...",
        help="Scales c_k to try. Repeatable.",
    )
    @_limit(16)
    @_common(files)
    def sweep(
        scales: tuple[str, ...],
        limit: int,
        steps: int,
        generator: Path | None,
        blip: Path | None,
        variant: Variant,
        dtype: str,
        out: Path | None,
        threads: int | None,
    ) -> None:
        grid = dict(_parse_scales(text) for text in scales)
        check_json(out)
        set_threads(threads)
        from .sweep import sweep_scales

        models = files.load_generator(generator), files.load_blip(variant, weights=blip)
        rows = sweep_scales(load(), *models, grid, limit=limit, steps=steps, dtype=dtype, progress=say)
        report({"rows": rows}, out)

    return sweep


def score_command(files: WorldFiles, load: Callable[[], World]) -> click.Command:
    """Return the command that scores schedules."""

    @click.command("score", short_help="Score schedules at the default scales.")
    @click.option(
        "--category", "categories", multiple=True, default=("single", "positional"), show_default=True
    )
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
    @_limit(200)
    @click.option("--seeds", type=POSITIVE, default=2, show_default=True, help="Number of seeds per prompt.")
    @_common(files)
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
        variant: Variant,
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
        from .sweep import score_guidance

        models = files.load_generator(generator), files.load_blip(variant, weights=blip)
        settings: dict[str, Any] = {"limit": limit, "seeds": range(seeds), "steps": steps, "dtype": dtype}
        scores: dict[str, Any] = {"prompts": limit, "seeds": seeds, "steps": steps, "dtype": dtype}
        for category in categories:
            scores[category] = score_guidance(
                load(), *models, built, category=category, progress=say, **settings
            )
        report(scores, out)

    return score


def _parse_scales(text: str) -> tuple[str, list[float]]:
    name, equals, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if not equals or not numbers:
        raise UsageError(f"--scale {text!r}: write OBJECTIVE=C,C,... such as itc=300,1000")
    return name, numbers
