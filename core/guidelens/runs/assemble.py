"""Resolve the settings of a run from its models and its sampling. No network is moved or evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.contracts import Generator, GuidanceModel
from guidelens.runs.config import ModelId, RunSettings
from guidelens.runs.resolve import Named

if TYPE_CHECKING:
    from guidelens.guidance import Settings
    from guidelens.sampling import Sampling


def assemble(
    generator: Named[Generator], guidance: Named[GuidanceModel], sampling: Sampling
) -> tuple[Settings, RunSettings]:
    """Return the settings for an engine and their record, both with every default filled in.

    :raises UsageError: for models or options that do not fit each other.
    """
    from guidelens.guidance import resolve

    settings = resolve(sampling, generator.component, guidance.component)
    channels, height, width = settings.picture_shape
    return settings, RunSettings(
        generator=ModelId(generator.name, str(generator.component.fingerprint)),
        guidance=ModelId(guidance.name, str(guidance.component.fingerprint)),
        image_shape=(channels, height, width),
        sampling=settings.sampling,
    )
