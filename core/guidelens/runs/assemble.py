"""From resolved components to an engine, and to the settings that its pictures depend on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from guidelens.runs.config import Settings
from guidelens.runs.plan import check_schedules

if TYPE_CHECKING:
    from guidelens.engine import Engine
    from guidelens.guidance import GuidanceOptions
    from guidelens.runs.resolve import Components


def assemble(
    parts: Components,
    *,
    steps: int,
    sampler: str,
    eta: float,
    options: GuidanceOptions | None,
    device: str,
    dtype: str,
    batch_size: int,
) -> tuple[Engine, Settings]:
    """Return the engine of a run, and its settings with every default filled in.

    :raises UsageError: for parts or settings that do not fit each other.
    """
    from guidelens.engine import Engine

    generator, guidance = parts.generator.component, parts.guidance.component
    engine = Engine(
        generator,
        guidance,
        steps=steps,
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
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
        options={**asdict(engine.options), "objective_scales": dict(sorted(engine.objective_scales.items()))},
    )
    return engine, settings
