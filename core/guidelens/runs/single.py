"""Draw and score one picture; on request, keep x0 of every step for an animation, and saliency maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, Schedule
from guidelens.errors import UsageError
from guidelens.runs.assemble import assemble
from guidelens.runs.config import RunSettings, as_prompts
from guidelens.runs.notes import Note
from guidelens.runs.plan import check_schedules
from guidelens.runs.resolve import resolve_components
from guidelens.runs.scoring import Scores, check_columns, score
from guidelens.runs.telemetry import StepRecorder, Telemetry, single_telemetry
from guidelens.sampling import Sampling
from guidelens.schedules import NamedSchedule, one_schedule

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.engine import Result, Step
    from guidelens.guidance import Settings
    from guidelens.plugins import PluginManager

MAPS_KEPT = 6
"""Number of steps whose saliency maps are kept."""


@dataclass(frozen=True)
class Drawing:
    """The result of :func:`draw`."""

    picture: Image
    frames: list[Image]
    """The predicted x0 of every step, noisiest first, then the picture; empty without ``keep_frames``."""
    scores: Scores
    result: Result
    settings: RunSettings
    telemetry: Telemetry | None = None
    """Telemetry of every step, with x0 and saliency maps at some; None without ``keep_saliency``."""
    schedule: str = ""
    """The name of the schedule that it was drawn under."""
    notes: tuple[Note, ...] = ()
    """What the reader should know about the prompt and the settings."""


def draw(
    prompt: str | Prompt,
    schedule: str | Schedule | None = None,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    metrics: Sequence[str | Metric] | None = None,
    device: str = "auto",
    plugins: PluginManager | None = None,
    keep_frames: bool = False,
    keep_saliency: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Drawing:
    """Draw one prompt under one schedule with one seed. Components are given as in :func:`guidelens.compare`.

    The picture equals that of the same cell of a comparison, up to rounding.

    :param schedule: None: the first default schedule that guides.
    :param sampling: how the picture is drawn; None: the defaults.
    :param keep_frames: keep the predicted x0 of every step.
    :param keep_saliency: keep x0 and saliency maps at :data:`MAPS_KEPT` of the guided steps, evenly spaced.
    :param on_step: called with every step.
    :raises UsageError: for a request that makes no sense.
    :raises GuidelensError: for sampling that failed.
    """
    from guidelens.engine import Engine, Sample
    from guidelens.pictures import to_picture

    (wanted,) = as_prompts([prompt])
    parts = resolve_components(
        plugins, generator=generator, guidance=guidance, schedules=schedule, metrics=metrics
    )
    check_columns(item.as_dict() for item in parts.metrics)
    settings, recorded = assemble(parts.generator, parts.guidance, sampling or Sampling())
    schedule_used = _one_schedule(parts.schedules, settings.steps, chosen=schedule is not None)
    check_schedules([schedule_used], settings.objectives, parts.guidance.name, settings.steps)
    weights = schedule_used.table(settings.steps).by_objective
    engine = Engine(parts.generator.component, parts.guidance.component, settings, device=device)
    frames = _Frames() if keep_frames else None
    recorder = _saliency_recorder(settings, weights) if keep_saliency else None
    sample = Sample(wanted.text, schedule_used.schedule, seed, label=schedule_used.name)
    (result,) = engine.run([sample], on_step=_in_turn(frames, recorder, on_step))
    picture = to_picture(result.image)
    (scores,) = score(parts.metrics, [picture], [wanted])
    notes = [Note("", text) for text in settings.notes] + [Note(wanted.text, text) for text in result.notes]
    return Drawing(
        picture=picture,
        frames=[*frames.pictures, picture] if frames is not None else [],
        scores=scores,
        result=result,
        settings=recorded,
        telemetry=single_telemetry(result, weights, recorder) if recorder is not None else None,
        schedule=schedule_used.name,
        notes=tuple(notes),
    )


def _one_schedule(schedules: Sequence[NamedSchedule], steps: int, *, chosen: bool) -> NamedSchedule:
    """Return the only schedule that the caller chose, or the first of the default ones that guides."""
    if chosen:
        return one_schedule(schedules).tabulated(steps)
    tables = [schedule.tabulated(steps) for schedule in schedules]
    return next((each for each in tables if each.table(steps).by_objective), tables[0])


class _Frames:
    """Keeps the preview of every step: the predicted x0 as a picture."""

    def __init__(self) -> None:
        self.pictures: list[Image] = []

    def __call__(self, step: Step) -> None:
        from guidelens.pictures import to_picture

        self.pictures.append(to_picture(step.preview[0]))


def _in_turn(*functions: Callable[[Step], None] | None) -> Callable[[Step], None]:
    """Return a function that passes a step to each of those that are not None."""

    def call(step: Step) -> None:
        for function in functions:
            if function is not None:
                function(step)

    return call


def _saliency_recorder(settings: Settings, weights: Mapping[str, Sequence[float]]) -> StepRecorder:
    """Return a recorder that keeps saliency at :data:`MAPS_KEPT` guided steps, evenly spaced."""
    kept = _guided_steps(settings, weights, MAPS_KEPT)
    return StepRecorder(settings.steps, [settings.progress[k] for k in kept])


def _guided_steps(settings: Settings, weights: Mapping[str, Sequence[float]], most: int) -> list[int]:
    """Return at most ``most`` of the steps at which some objective is active, evenly spaced.

    :raises UsageError: no objective is active at any step.
    """
    guided = [k for k, on in enumerate(settings.guided) if on and any(row[k] for row in weights.values())]
    if not guided or settings.sampling.scale == 0:
        raise UsageError("an unguided picture has no saliency: no objective is active at any of its steps")
    count = min(most, len(guided))
    return [guided[round(i * (len(guided) - 1) / max(count - 1, 1))] for i in range(count)]
