"""Options that several commands share: models, sampling, guidance and device."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from guidelens.sampling import PRESETS, Sampling, options
from guidelens.sampling.options import COMPUTING, DTYPES, GUIDANCE, SAMPLING, TIMING, VIEWS

from .completion import complete_component, complete_plugin
from .sampling_flags import Swept, sampling_flags, sampling_of
from .sections import SectionedCommand, option

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

__all__ = [
    "COMPUTING",
    "DTYPES",
    "MODELS",
    "BatchSize",
    "SectionedCommand",
    "Setup",
    "batch_sizes_option",
    "device_option",
    "generator_option",
    "get_manager",
    "guidance_option",
    "plugin_option",
    "repeats_option",
    "setup_options",
    "sweep_options",
]

F = TypeVar("F", bound=Callable[..., Any])
Declaration: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Setup:
    """The models, sampling and device that a command line requests. Nothing is loaded or built yet.

    ``generator`` and ``guidance`` are component spellings, or None for the default.

    :param preset: the name of the preset that ``sampling`` is based on.
    """

    generator: str | None = None
    guidance: str | None = None
    preset: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"
    batch_size: int | str = 16
    swept: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Options with several values, in commands that accept them. ``sampling`` has the first value of each."""

    @property
    def samplings(self) -> dict[str, Sampling]:
        """One sampling per combination of swept values, by label, such as ``scale 0.3``; empty label without sweep."""
        found = {}
        for values in itertools.product(*self.swept.values()):
            chosen = dict(zip(self.swept, values, strict=True))
            label = ", ".join(f"{name.replace('_', ' ')} {_spelled(value)}" for name, value in chosen.items())
            found[label] = replace(self.sampling, **chosen)
        return found

    def arguments(self) -> list[str]:
        """Return the command-line arguments that request this setup. Options at their default are left out."""
        defaults = Setup()
        names = ("generator", "guidance", "preset", "device", "batch_size")
        given = [(name, getattr(self, name)) for name in names]
        words = [
            word
            for name, value in given
            if value != getattr(defaults, name)
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        base = None if self.preset is None else Sampling.preset(self.preset)
        unswept = base or Sampling()
        shared = replace(self.sampling, **{name: getattr(unswept, name) for name in self.swept})
        words += shared.arguments(base)
        for known in options():
            if known.name in self.swept:
                words += [known.flag, ",".join(map(_spelled, self.swept[known.name]))]
        return words


def _spelled(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "none" if value is None else str(value)


def setup_options(function: F) -> F:
    """Add the options for models and sampling to a command. Its function receives ``setup``, a :class:`Setup`.

    Use it with ``cls=SectionedCommand``. The help also shows ``--plugin``, although it is read before the command line
    is parsed.
    """
    return _with_setup(function, _setup_declarations(sweeps=False))


def sweep_options(function: F) -> F:
    """Like :func:`setup_options`, but numeric options accept several values with commas (``Setup.swept``)."""
    return _with_setup(function, _setup_declarations(sweeps=True))


def _with_setup(function: F, declarations: Sequence[Declaration]) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        values = {known.name: kwargs.pop(known.name) for known in options()}
        chosen = {
            name: kwargs.pop(name) for name in ("generator", "guidance", "preset", "device", "batch_size")
        }
        swept = {name: value.values for name, value in values.items() if isinstance(value, Swept)}
        values |= {name: several[0] for name, several in swept.items()}
        sampling = sampling_of(click.get_current_context(), chosen["preset"], values)
        return function(*args, setup=Setup(sampling=sampling, swept=swept, **chosen), **kwargs)

    decorated: Any = wrapper
    for declare in reversed(declarations):
        decorated = declare(decorated)
    return decorated


DIGITS = 9
"""The largest batch size."""


class BatchSize(click.ParamType):
    """A whole number from 1 on, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or ``auto``."""
        if value == "auto" or (isinstance(value, int) and value >= 1):
            return value
        text = str(value)
        if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS and int(text) >= 1):
            self.fail(f"{text[:40]!r} is neither a number from 1 on nor auto", param, ctx)
        return int(text)


MODELS = "Models"
"""The section of the help that lists generator, guidance model and plugins."""


def generator_option() -> Declaration:
    """Return the declaration of ``--generator``."""
    return option(
        "--generator",
        metavar="SPEC",
        shell_complete=complete_component("generator"),
        section=MODELS,
        help="Diffusion model that draws: name or name:key=value,key=value.",
    )


def joined_specs(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Join several components into one spelling. Return None if there are none."""
    return ",".join(values) or None


def guidance_option(more: str = "") -> Declaration:
    """Return the declaration of ``--guidance``.

    :param more: further sentences for its help.
    """
    return option(
        "--guidance",
        metavar="SPEC",
        multiple=True,
        callback=joined_specs,
        shell_complete=complete_component("guidance"),
        section=MODELS,
        help="Vision-language model that steers: name or name:key=value,key=value. Repeatable: the objectives of "
        f"several models are named MODEL/OBJECTIVE.{more}",
    )


def plugin_option() -> Declaration:
    """Return the declaration of ``--plugin``, which is read before the command line is parsed."""
    return option(
        "-p",
        "--plugin",
        metavar="X",
        multiple=True,
        expose_value=False,
        shell_complete=complete_plugin,
        section=MODELS,
        help="Load plugin X (name, module or .py file) and prefer its components; no:X blocks it.",
    )


def device_option(default: str = "auto") -> Declaration:
    """Return the declaration of ``--device``."""
    return option(
        "--device",
        default=default,
        show_default=True,
        section=COMPUTING,
        help="auto, cpu, cuda, cuda:N or mps.",
    )


def batch_sizes_option(*default: int, section: str) -> Declaration:
    """Return the declaration of a repeatable ``--batch-size``, for commands that measure. It sets ``batch_sizes``."""
    return option(
        "--batch-size",
        "batch_sizes",
        type=click.IntRange(min=1),
        multiple=True,
        default=default,
        section=section,
        help="Pictures computed at once. Repeatable: each batch size is measured.  "
        f"[default: {', '.join(map(str, default))}]",
    )


def repeats_option(section: str) -> Declaration:
    """Return the declaration of ``--repeats``, for commands that measure."""
    return option(
        "--repeats",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        section=section,
        help="Measured rounds of each case. The tables show their medians.",
    )


def _setup_declarations(*, sweeps: bool) -> tuple[Declaration, ...]:
    return (
        generator_option(),
        guidance_option(),
        plugin_option(),
        option(
            "--preset",
            type=click.Choice(tuple(PRESETS)),
            section=MODELS,
            help="Start from the options of a published method; other flags override them.  [default: none]",
        ),
        *sampling_flags(SAMPLING, GUIDANCE, TIMING, VIEWS, sweeps=sweeps),
        device_option(),
        *sampling_flags(COMPUTING),
        option(
            "--batch-size",
            type=BatchSize(),
            default=16,
            show_default=True,
            section=COMPUTING,
            help="Pictures computed at once; auto: as many as should fit into memory.",
        ),
    )


def get_manager(ctx: click.Context) -> PluginManager:
    """Return the plugins of this invocation. Load the installed ones if the command group has not loaded any."""
    from guidelens.plugins import PluginManager

    manager = ctx.find_object(PluginManager)
    if manager is None:
        manager = ctx.obj = PluginManager.load()
    return manager
