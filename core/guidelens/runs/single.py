"""One picture: drawn, scored, with x0 of every step kept for an animation, and maps of saliency on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, Schedule
from guidelens.errors import UsageError
from guidelens.runs.assemble import assemble
from guidelens.runs.config import Settings, as_prompts
from guidelens.runs.resolve import resolve_components
from guidelens.runs.scoring import Scores, check_columns, score
from guidelens.runs.telemetry import StepRecorder, Telemetry, single_telemetry

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.engine import Engine, Result, Step
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager

MAPS_KEPT = 6
"""Steps of which saliency is kept."""


@dataclass(frozen=True)
class Drawing:
    """A picture and all that is known about it."""

    picture: Image
    frames: list[Image]
    """The predicted x0 of every step, noisiest first, then the picture; empty unless asked for."""
    scores: Scores
    result: Result
    settings: Settings
    telemetry: Telemetry | None = None
    """Of every step, with x0 and saliency at some; None unless saliency is asked for."""


def draw(
    prompt: str | Prompt,
    schedule: str | Schedule,
    *,
    seed: int = 0,
    steps: int | str = 50,
    sampler: str = "ddpm",
    eta: float = 0.0,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    metrics: Sequence[str | Metric] | None = None,
    options: GuidanceOptions | None = None,
    device: str = "auto",
    dtype: str = "float32",
    plugins: PluginManager | None = None,
    keep_frames: bool = False,
    keep_saliency: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Drawing:
    """Draw one prompt under one schedule with one seed; components as in
    :func:`guidelens.runs.compare.compare`.

    The picture is that of the same cell of a comparison, up to rounding.

    :param keep_frames: keep the predicted x0 of every step.
    :param keep_saliency: keep x0 and maps of saliency at :data:`MAPS_KEPT` of the guided steps, evenly spaced.
    :param on_step: called with every step.
    :raises UsageError: for a request that makes no sense.
    :raises GuidelensError: for sampling that failed.
    """
    from guidelens.engine import Sample
    from guidelens.pictures import to_picture
    from guidelens.runs.compare import notes_once

    (wanted,) = as_prompts([prompt])
    parts = resolve_components(
        plugins, generator=generator, guidance=guidance, schedules=[schedule], metrics=metrics
    )
    check_columns(item.as_dict() for item in parts.metrics)
    engine, settings = assemble(
        parts,
        steps=steps,
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=1,
    )
    (schedule_used,) = parts.schedules
    weights = schedule_used.table(engine.steps)
    kept = _guided_steps(engine, weights, MAPS_KEPT) if keep_saliency else []
    recorder = StepRecorder(engine.steps, [k / max(engine.steps - 1, 1) for k in kept])
    frames: list[Image] = []

    def observe(step: Step) -> None:
        if keep_frames:
            frames.append(to_picture(step.pred_x0[0]))
        if keep_saliency:
            recorder(step)
        if on_step is not None:
            on_step(step)

    sample = Sample(wanted.text, schedule_used.schedule, seed, label=schedule_used.name)
    with notes_once():
        (result,) = engine.run([sample], on_step=observe)
    picture = to_picture(result.image)
    (scores,) = score(parts.metrics, [picture], [wanted])
    telemetry = single_telemetry(result, weights, recorder) if keep_saliency else None
    return Drawing(picture, [*frames, picture] if keep_frames else [], scores, result, settings, telemetry)


def _guided_steps(engine: Engine, weights: Mapping[str, Sequence[float]], most: int) -> list[int]:
    """Return at most ``most`` of the steps at which some objective is active, evenly spaced.

    :raises UsageError: where none is.
    """
    within = engine.options.guided_steps(engine.steps)
    guided = [k for k, on in enumerate(within) if on and any(row[k] for row in weights.values())]
    if not guided or engine.options.scale == 0:
        raise UsageError("an unguided picture has no saliency: no objective is active at any of its steps")
    count = min(most, len(guided))
    return [guided[round(i * (len(guided) - 1) / max(count - 1, 1))] for i in range(count)]
