"""Steps as they happen: prompts drawn under one schedule, with components by name or as objects."""

from __future__ import annotations

import collections.abc as cabc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel, Prompt, Schedule
from guidelens.runs.assemble import assemble
from guidelens.runs.resolve import resolve_components

if TYPE_CHECKING:
    from guidelens.engine import Step
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager


def stream(
    prompts: str | Prompt | Sequence[str | Prompt],
    schedule: str | Schedule,
    *,
    seed: int = 0,
    steps: int | str = 50,
    sampler: str = "ddpm",
    eta: float = 0.0,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    options: GuidanceOptions | None = None,
    device: str = "auto",
    dtype: str = "float32",
    plugins: PluginManager | None = None,
) -> cabc.Generator[Step, None, None]:
    """Draw prompts under one schedule, and yield each :class:`~guidelens.engine.Step` when it has been taken.

    Components are given by name (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or as objects; None takes the
    default of the loaded plugins. Names are built anew by each call: who streams often builds once and passes
    objects, or keeps an :class:`~guidelens.engine.Engine`, whose ``stream`` also takes a schedule, a seed and a
    scale for each picture.

    Nothing runs ahead of the consumer. To stop, leave the loop, or ``close()`` what this returns from where it is
    consumed; the networks are then as they were before.

    :param prompts: one, or several that are drawn at once, from the same noise: the B rows of each step.
    :param seed: of all the noise.
    :param steps: the last of them holds the finished pictures in ``sample``.
    :param options: how guidance enters the step.
    :raises UsageError: at once, for a request that makes no sense.
    :raises GuidelensError: at once, for components that cannot be built; while running, for sampling that failed.
    """
    from guidelens.engine import Sample

    parts = resolve_components(
        plugins, generator=generator, guidance=guidance, schedules=[schedule], metrics=()
    )
    engine, _ = assemble(
        parts,
        steps=steps,
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=1,  # of Engine.run; a stream is one batch
    )
    chosen = parts.schedules[0].schedule
    wanted = [prompts] if isinstance(prompts, str | Prompt) else prompts
    texts = [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in wanted]
    return engine.stream([Sample(text, chosen, seed) for text in texts])
