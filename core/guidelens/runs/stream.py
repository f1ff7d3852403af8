"""Draw prompts under one schedule and yield every step. Components are given by name or as objects."""

from __future__ import annotations

import collections.abc as cabc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel, Prompt, Schedule
from guidelens.runs.resolve import resolve_components
from guidelens.schedules import one_schedule

if TYPE_CHECKING:
    from guidelens.engine import Step
    from guidelens.plugins import PluginManager
    from guidelens.sampling import Sampling


def stream(
    prompts: str | Prompt | Sequence[str | Prompt],
    schedule: str | Schedule,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    device: str = "auto",
    plugins: PluginManager | None = None,
) -> cabc.Generator[Step, None, None]:
    """Draw prompts under one schedule, and yield every :class:`~guidelens.engine.Step`.

    Components are given by name (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or as objects; None takes the default of
    the loaded plugins. Each call builds named components again. To stream often, build them once and pass objects, or
    keep an :class:`~guidelens.engine.Engine`. Its ``stream`` also takes a schedule, a seed and a scale for each
    picture.

    A step is computed only when it is requested. To stop, leave the loop or call ``close()`` on the returned
    iterator, in the same thread. This also restores the networks.

    :param prompts: one or several prompts, drawn at once from the same noise. They are the B rows of each step.
    :param seed: seed of all the noise.
    :param sampling: how pictures are drawn; the last step holds the finished pictures in ``picture``.
    :raises UsageError: at once, for a request that makes no sense.
    :raises GuidelensError: at once, for components that cannot be built; while running, for sampling that failed.
    """
    from guidelens.engine import Engine, Sample

    parts = resolve_components(
        plugins, generator=generator, guidance=guidance, schedules=schedule, metrics=()
    )
    engine = Engine(parts.generator.component, parts.guidance.component, sampling, device=device)
    chosen = one_schedule(parts.schedules).schedule
    wanted = [prompts] if isinstance(prompts, str | Prompt) else prompts
    texts = [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in wanted]
    return engine.stream([Sample(text, chosen, seed) for text in texts])
