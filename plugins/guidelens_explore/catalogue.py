"""What the page offers before any model is built: components, defaults, example prompts, schedules as curves."""

from __future__ import annotations

from typing import Any

from guidelens.colours import colour_number, palette
from guidelens.errors import GuidelensError
from guidelens.plugins import Component, ComponentInfo, PluginManager
from guidelens.sampling import Sampling
from guidelens.schedules import read_schedules

from .tries import MAX_SCHEDULES, MAX_STEPS

EXAMPLES = 8
"""Number of prompts that the page suggests."""

SAMPLES = 49
"""Number of points at which a schedule's weights are sent, for its small chart."""

FAVOURITES = ("itc", "cap", "shift")
"""Schedules that are selected at first, if they are installed."""


def catalogue(
    plugins: PluginManager, *, generator: str | None = None, guidance: str | None = None
) -> dict[str, Any]:
    """Return what the page needs to show its controls.

    :param generator: the generator that is selected at first; None: the default.
    :raises UsageError: a name is unknown, or there is no default.
    """
    ready = [info for info in plugins.components("schedule") if _ready(info)]
    schedules = [
        {**schedule_weights(plugins, _name(plugins, info)), "summary": info.summary} for info in ready
    ]
    schedules = [
        schedule for schedule in schedules if schedule["weights"]
    ]  # the first column is without guidance
    names = [schedule["name"] for schedule in schedules]
    favourites = [name for name in FAVOURITES if name in names] or names[:3]
    sampling = Sampling()
    chosen = plugins.resolve("generator", generator)
    return {
        "generators": [_entry(plugins, info) for info in plugins.components("generator")],
        "guidance": [_entry(plugins, info) for info in plugins.components("guidance")],
        "schedules": schedules,
        "defaults": {
            "generator": chosen.spec,
            "guidance": plugins.resolve("guidance", guidance, beside=chosen).spec,
            "schedules": favourites,
            "steps": sampling.number_of_steps,
            "scale": sampling.scale,
            "sampler": sampling.sampler,
        },
        "examples": _examples(plugins, chosen),
        "limits": {"schedules": MAX_SCHEDULES, "steps": MAX_STEPS},
    }


def schedule_weights(plugins: PluginManager, spec: str) -> dict[str, Any]:
    """Return a schedule in its canonical spelling, and its weights over progress by objective.

    :raises UsageError: the text does not name a schedule.
    """
    (schedule,) = read_schedules(spec, lambda: plugins)
    table = schedule.table(SAMPLES)
    return {
        "name": schedule.name,
        "weights": table.by_objective,
        "colour": colour_number(schedule.name),
        "colours": palette(table.by_objective),
    }


def _ready(info: ComponentInfo) -> bool:
    """Return whether a component can be chosen by its name alone."""
    return info.default is not False and not info.missing and not any(o.required for o in info.options)


def _name(plugins: PluginManager, info: ComponentInfo) -> str:
    same = [other for other in plugins.components(info.kind) if other.name == info.name]
    return info.name if len(same) == 1 else info.qualified


def _entry(plugins: PluginManager, info: ComponentInfo) -> dict[str, Any]:
    needed = [option.name for option in info.options if option.required]
    return {
        "name": _name(plugins, info),
        "summary": info.summary,
        "missing": list(info.missing),
        "needs": needed,
    }


def _examples(plugins: PluginManager, generator: Component) -> list[str]:
    """Return some prompts of the default prompt set, or none if there is no such set."""
    try:
        prompts = plugins.build("prompts", beside=generator)
    except GuidelensError:
        return []
    stride = max(1, len(prompts) // EXAMPLES)
    texts = [getattr(prompt, "text", prompt) for prompt in list(prompts)[::stride][:EXAMPLES]]
    return [str(text) for text in texts]
