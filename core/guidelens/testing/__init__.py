"""The conformance kit for plugin authors. It checks that a component fulfils its contract.

``check_generator``, ``check_guidance_model``, ``check_schedule``, ``check_metric`` and ``check_prompt_set`` take a
component, raise a :class:`ConformanceError` (an AssertionError) that lists each failed check with its numbers, and
return a :class:`ConformanceReport` if nothing failed. :func:`examine` returns the report either way.

Nothing here loads torch until a component is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from guidelens.lazy import lazy_names

from .report import Check, ConformanceError, ConformanceReport

if TYPE_CHECKING:
    from torch import Tensor

    from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, PromptSet, Schedule

    from .toys import TinyGenerator, TinyGuidanceModel

__all__ = [
    "Check",
    "ConformanceError",
    "ConformanceReport",
    "TinyGenerator",
    "TinyGuidanceModel",
    "check_generator",
    "check_guidance_model",
    "check_metric",
    "check_prompt_set",
    "check_schedule",
    "checks_of",
    "examine",
]

_EXAMINERS = {
    "generator": "examine_generator",
    "guidance": "examine_guidance_model",
    "schedule": "examine_schedule",
    "metric": "examine_metric",
    "prompts": "examine_prompt_set",
}
"""Kind, which is the module's name as well -> its function."""


def examine(kind: str, component: Any, **options: Any) -> ConformanceReport:
    """Run every check of a kind, and return the report.

    :param kind: ``generator``, ``guidance``, ``schedule``, ``metric`` or ``prompts``.
    :param options: options of the ``check_`` function of that kind.
    :raises UsageError: for an unknown kind, or a check to skip that does not exist.
    """
    examiner: Callable[..., ConformanceReport] = getattr(_module_of(kind), _EXAMINERS[kind])
    return examiner(component, **options)


def checks_of(kind: str) -> dict[str, str]:
    """Return the checks of a kind: names, and the promise that each checks.

    :raises UsageError: for an unknown kind.
    """
    about: dict[str, str] = _module_of(kind).CHECKS.about
    return about


def _module_of(kind: str) -> Any:
    if kind not in _EXAMINERS:
        from guidelens.errors import UsageError

        raise UsageError(f"unknown kind of component {kind!r}; choose {', '.join(_EXAMINERS)}")
    return import_module(f"{__name__}.{kind}")


def check_generator(
    generator: Generator,
    *,
    images: Tensor | None = None,
    device: str = "cpu",
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a generator.

    :param images: clean pictures (B, C, H, W) in [-1, 1] of its domain (latents for a latent generator), used in
        addition to its own samples.
    :param device: where it runs: ``cpu``, ``cuda``, ...
    :param skip: names of checks to leave out; they are reported as such.
    :raises ConformanceError: listing the checks that failed.
    """
    return _checked("generator", generator, images=images, device=device, skip=skip)


def check_guidance_model(
    model: GuidanceModel,
    *,
    prompts: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    device: str = "cpu",
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a guidance model.

    :param prompts: three or more different texts that it can read; None: built-in ones.
    :param image_shape: (C, H, W) of most test pictures.
    :param device: where it runs: ``cpu``, ``cuda``, ...
    :param skip: names of checks to leave out; they are reported as such.
    :raises ConformanceError: listing the checks that failed.
    """
    return _checked("guidance", model, prompts=prompts, image_shape=image_shape, device=device, skip=skip)


def check_schedule(schedule: Schedule, *, skip: Collection[str] = ()) -> ConformanceReport:
    """Check a schedule.

    :param skip: names of checks to leave out; they are reported as such.
    :raises ConformanceError: listing the checks that failed.
    """
    return _checked("schedule", schedule, skip=skip)


def check_metric(
    metric: Metric,
    *,
    prompts: Sequence[Prompt] | None = None,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    examples: Sequence[tuple[Tensor, Prompt]] = (),
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a metric.

    :param prompts: prompts to score against; None: built-in ones.
    :param image_shape: (C, H, W) of the pictures if there are no examples.
    :param examples: pictures (C, H, W) in [-1, 1] that show their prompt. On average they must score better than
        noise and flat pictures, in every column.
    :param skip: names of checks to leave out; they are reported as such.
    :raises ConformanceError: listing the checks that failed.
    """
    return _checked(
        "metric",
        metric,
        prompts=prompts,
        image_shape=image_shape,
        examples=examples,
        skip=skip,
    )


def check_prompt_set(prompts: PromptSet, *, skip: Collection[str] = ()) -> ConformanceReport:
    """Check a prompt set.

    :param skip: names of checks to leave out; they are reported as such.
    :raises ConformanceError: listing the checks that failed.
    """
    return _checked("prompts", prompts, skip=skip)


def _checked(kind: str, component: Any, **options: Any) -> ConformanceReport:
    report = examine(kind, component, **options)
    report.raise_for_failures()
    return report


# They need torch.
__getattr__, __dir__ = lazy_names(__name__, {"TinyGenerator": "toys", "TinyGuidanceModel": "toys"})
