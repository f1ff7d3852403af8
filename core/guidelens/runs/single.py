"""One picture: drawn, scored, with the x0 of every step kept where an animation is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, Schedule
from guidelens.runs.assemble import assemble
from guidelens.runs.config import Settings, as_prompts
from guidelens.runs.resolve import resolve_components
from guidelens.runs.scoring import Scores, score

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.engine import Result, Step
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager


@dataclass(frozen=True)
class Drawing:
    """A picture and all that is known about it."""

    picture: Image
    frames: list[Image]
    """The predicted x0 of every step, noisiest first, then the picture; empty unless asked for."""
    scores: Scores
    result: Result
    settings: Settings


def draw(
    prompt: str | Prompt,
    schedule: str | Schedule,
    *,
    seed: int = 0,
    steps: int = 50,
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
    on_step: Callable[[Step], None] | None = None,
) -> Drawing:
    """Draw one prompt under one schedule with one seed; components as in
    :func:`guidelens.runs.compare.compare`.

    The picture is that of the same cell of a comparison, up to rounding.

    :param keep_frames: keep the predicted x0 of every step.
    :param on_step: called with every step.
    :raises UsageError: for a request that makes no sense.
    :raises GuidelensError: for sampling that failed.
    """
    from guidelens.engine import Sample
    from guidelens.report.pictures import to_picture
    from guidelens.runs.compare import notes_once

    (wanted,) = as_prompts([prompt])
    parts = resolve_components(
        plugins, generator=generator, guidance=guidance, schedules=[schedule], metrics=metrics
    )
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
    frames: list[Image] = []

    def observe(step: Step) -> None:
        if keep_frames:
            frames.append(to_picture(step.pred_x0[0]))
        if on_step is not None:
            on_step(step)

    sample = Sample(wanted.text, parts.schedules[0].schedule, seed, label=parts.schedules[0].name)
    with notes_once():
        (result,) = engine.run([sample], on_step=observe)
    picture = to_picture(result.image)
    (scores,) = score(parts.metrics, [picture], [wanted])
    return Drawing(picture, [*frames, picture] if keep_frames else [], scores, result, settings)
