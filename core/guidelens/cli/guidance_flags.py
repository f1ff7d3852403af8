"""The flags of guidance: one for every field of GuidanceOptions, under its name.

A flag that is not given is None, so that a preset can stand in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_args

import click

from guidelens.contracts import Into
from guidelens.errors import UsageError
from guidelens.guidance.options import Average, Dose, GuidanceOptions, Normalize, See, Through
from guidelens.guidance.presets import PRESETS

from .sections import option

GUIDANCE, TIMING, VIEWS = "Guidance", "When to guide", "What the guidance model is shown"

_DEFAULTS = {part.name: part.default for part in fields(GuidanceOptions) if part.default is not MISSING}


def _pairs(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Read ``NAME=VALUE`` options into a dict."""
    pairs: dict[str, float] = {}
    for text in values:
        name, equals, number = text.partition("=")
        try:
            scale = float(number)
        except ValueError:
            scale = math.nan
        if not equals or not name.strip() or not math.isfinite(scale):
            raise UsageError(f"--objective-scale {text!r}: write NAME=NUMBER, such as itc=2.5")
        if name.strip() in pairs:
            raise UsageError(f"--objective-scale names {name.strip()!r} twice")
        pairs[name.strip()] = scale
    return pairs


def _finite(_ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{parameter.opts[0]} must be a finite number, not {value}")
    return value


def _flag(name: str, kind: Any, section: str, help: str) -> Callable[[Any], Any]:
    """Declare the flag of the field ``name``; ``kind`` is int, float, or the choices."""
    default = _DEFAULTS[name]
    shown = f"  [default: {default:g}]" if isinstance(default, int | float) else f"  [default: {default}]"
    return option(
        f"--{name.replace('_', '-')}",
        type=click.Choice(kind) if isinstance(kind, tuple) else kind,
        callback=_finite if kind is float else None,
        section=section,
        help=help + (shown if default not in (None, "") else ""),
    )


GUIDANCE_FLAGS = (
    option(
        "--preset",
        type=click.Choice(tuple(PRESETS)),
        section=GUIDANCE,
        help="A published method: its guidance, its sampler; other flags override.",
    ),
    _flag("scale", float, GUIDANCE, "Guidance scale s; 0 leaves pictures unguided."),
    option(
        "--objective-scale",
        "objective_scales",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_pairs,
        section=GUIDANCE,
        help="Scale of one objective, in place of the guidance model's own. Repeatable.",
    ),
    _flag(
        "through",
        get_args(Through),
        GUIDANCE,
        "Differentiate through the diffusion network, or stop at x0 (cheaper).",
    ),
    _flag("into", get_args(Into), GUIDANCE, "What the gradient is added to: the score, x_{t-1}, or x0."),
    _flag("normalize", get_args(Normalize), GUIDANCE, "Length of the gradient, per sample."),
    _flag("clip_norm", float, GUIDANCE, "Largest norm of a sample's gradient, before the scale."),
    _flag("range_scale", float, GUIDANCE, "Weight of the loss that holds x0 within [-1, 1]."),
    _flag(
        "dose",
        get_args(Dose),
        GUIDANCE,
        "matched: scale s so that the dose is that of a run of --dose-steps steps.",
    ),
    _flag(
        "dose_steps",
        click.IntRange(min=1),
        GUIDANCE,
        "Reference of --dose matched.  [default: all timesteps]",
    ),
    _flag("start", float, TIMING, "Progress (0 noisiest, 1 last) at which guidance sets in."),
    _flag("stop", float, TIMING, "Progress after which it ends."),
    _flag("every", click.IntRange(min=1), TIMING, "Guide every so many steps."),
    _flag("recurrence", click.IntRange(min=1), TIMING, "Repeat each step N times, re-noising in between."),
    _flag("recurrence_start", float, TIMING, "Training time 1 - t/T (0 noisiest) from which steps recur."),
    _flag("recurrence_stop", float, TIMING, "Training time up to which they do."),
    _flag("see", get_args(See), VIEWS, "Predicted x0, x0 clamped, or x0 blended with x_t."),
    _flag("augment", str, VIEWS, "Random views in place of the image: crop, affine, noise, joined by +."),
    _flag("augmentations", click.IntRange(min=1), VIEWS, "How many views a step averages over."),
    _flag("augment_strength", float, VIEWS, "How far they go, 0 to 2."),
    _flag(
        "smoothing", click.IntRange(min=0), VIEWS, "Draws around x0 over which the loss is smoothed; 0: none."
    ),
    _flag("smoothing_average", get_args(Average), VIEWS, "How the losses of the draws combine."),
    _flag("smoothing_radius", float, VIEWS, "Their spread, times sqrt(1 - abar)."),
)
