"""From resolved components to an engine, and to the settings that its pictures depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.runs.config import Settings, join_steps, split_steps
from guidelens.runs.plan import check_schedules

if TYPE_CHECKING:
    from guidelens.engine import Engine
    from guidelens.guidance import GuidanceOptions
    from guidelens.runs.resolve import Components


def assemble(
    parts: Components,
    *,
    steps: int | str,
    sampler: str,
    eta: float,
    options: GuidanceOptions | None,
    device: str,
    dtype: str,
    batch_size: int | str,
    prompt: str = "",
) -> tuple[Engine, Settings]:
    """Return the engine of a run, and its settings with every default filled in.

    :param steps: as :func:`~guidelens.runs.config.split_steps` reads them.
    :param batch_size: ``auto`` becomes what should fit into memory, the engine's ``batch_size``.
    :param prompt: one of the run's, on which ``auto`` is tried.
    :raises UsageError: for parts or settings that do not fit each other.
    """
    from guidelens.engine import Engine, Sample

    number, respacing = split_steps(steps)
    generator, guidance = parts.generator.component, parts.guidance.component
    engine = Engine(
        generator,
        guidance,
        steps=join_steps(number, respacing),
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,  # type: ignore[arg-type]  # a number or "auto", which Engine checks
    )
    check_schedules(parts.schedules, guidance.objectives, parts.guidance.name, engine.steps)
    channels, height, width = generator.image_shape
    settings = Settings(
        generator=parts.generator.name,
        generator_fingerprint=str(generator.fingerprint),
        guidance=parts.guidance.name,
        guidance_fingerprint=str(guidance.fingerprint),
        image_shape=(channels, height, width),
        steps=engine.steps,
        sampler=sampler,
        eta=eta,
        dtype=dtype,
        options=engine.resolved_options(),
        respacing=respacing,
    )
    if engine.batch_size == "auto":
        engine.batch_size = engine.predict_batch_size(Sample(prompt, parts.schedules[0].schedule))
    return engine, settings
