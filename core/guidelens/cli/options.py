"""Options that several commands share: which networks, which sampler, how much guidance, on which device."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guidelens.errors import UsageError

from .completion import complete_component, complete_plugin

if TYPE_CHECKING:
    from guidelens.engine import Engine
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("float32", "bfloat16", "float16", "float64")
SAMPLERS = ("ddpm", "ddim")


class SectionedOption(click.Option):
    """An option that ``--help`` lists under a heading of its own."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose ``--help`` groups options by their section, in the order in which these first come."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options", [])  # --help and its like come last
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


@dataclass(frozen=True)
class EngineRequest:
    """What the engine options of a command line ask for; nothing is loaded or built yet.

    ``generator`` and ``guidance`` are component spellings, None for the default.
    """

    generator: str | None = None
    guidance: str | None = None
    sampler: str = "ddpm"
    steps: int = 50
    eta: float = 0.0
    scale: float = 1.0
    objective_scales: dict[str, float] = field(default_factory=dict)
    through: str = "unet"
    see: str = "x0"
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 16

    def guidance_options(self) -> GuidanceOptions:
        """Return the options of the guidance. Imports torch."""
        from guidelens.guidance import GuidanceOptions

        return GuidanceOptions(
            scale=self.scale,
            objective_scales=self.objective_scales,
            through=self.through,  # type: ignore[arg-type]  # click has checked the choice
            see=self.see,  # type: ignore[arg-type]  # likewise
        )

    def arguments(self) -> list[str]:
        """Return the command-line arguments that ask for this, those at their default left out."""
        listed: list[str] = []
        for part in fields(self):
            value, option = getattr(self, part.name), f"--{part.name.replace('_', '-')}"
            if part.name == "objective_scales":
                for name, scale in value.items():
                    listed += ["--objective-scale", f"{name}={scale!r}"]
            elif value != part.default:
                listed += [option, str(value)]
        return listed

    def command_line(self) -> str:
        """Return :meth:`arguments` quoted for a POSIX shell."""
        return shlex.join(self.arguments())


def engine_options(function: F) -> F:
    """Give a command the options that choose an engine; its function gets ``engine``, an EngineRequest.

    Use it with ``cls=SectionedCommand``. ``--plugin`` is shown too, although it is read before the command
    line is.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen = {part.name: kwargs.pop(part.name) for part in fields(EngineRequest)}
        return function(*args, engine=EngineRequest(**chosen), **kwargs)

    decorated: Any = wrapper
    for option in reversed(_ENGINE_OPTIONS):
        decorated = option(decorated)
    return decorated


def _option(*names: str, section: str, **kwargs: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=SectionedOption, section=section, **kwargs)


def _pairs(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Read ``NAME=VALUE`` options into a dict."""
    pairs: dict[str, float] = {}
    for text in values:
        name, equals, number = text.partition("=")
        try:
            scale = float(number)
        except ValueError:
            scale = math.nan
        if not equals or not name.strip() or not math.isfinite(scale):
            raise UsageError(f"--objective-scale {text!r}: write NAME=NUMBER, such as itc=2.5")
        if name.strip() in pairs:
            raise UsageError(f"--objective-scale names {name.strip()!r} twice")
        pairs[name.strip()] = scale
    return pairs


def _finite(_ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise UsageError(f"--{parameter.name} must be a finite number, not {value}")
    return value


_MODELS, _SAMPLING, _GUIDANCE, _COMPUTE = "Models", "Sampling", "Guidance", "Computing"

_ENGINE_OPTIONS = (
    _option(
        "--generator",
        metavar="SPEC",
        shell_complete=complete_component("generator"),
        section=_MODELS,
        help="Diffusion model that draws: name or name:key=value,key=value.  [default: the plugin's]",
    ),
    _option(
        "--guidance",
        metavar="SPEC",
        shell_complete=complete_component("guidance"),
        section=_MODELS,
        help="Vision-language model that steers, spelled likewise.  [default: the plugin's]",
    ),
    _option(
        "-p",
        "--plugin",
        metavar="X",
        multiple=True,
        expose_value=False,
        shell_complete=complete_plugin,
        section=_MODELS,
        help="Load plugin X (name, module or .py file) and prefer what it offers; no:X blocks it.",
    ),
    _option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        default="ddpm",
        show_default=True,
        section=_SAMPLING,
        help="Reverse process.",
    ),
    _option(
        "--steps",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        section=_SAMPLING,
        help="Sampling steps.",
    ),
    _option(
        "--eta",
        type=click.FloatRange(min=0, max=1),
        default=0.0,
        show_default=True,
        section=_SAMPLING,
        help="Noise of the ddim sampler: 0 none, 1 as much as ddpm.",
    ),
    _option(
        "--scale",
        type=float,
        default=1.0,
        show_default=True,
        callback=_finite,
        section=_GUIDANCE,
        help="Guidance scale s; 0 leaves pictures unguided.",
    ),
    _option(
        "--objective-scale",
        "objective_scales",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_pairs,
        section=_GUIDANCE,
        help="Scale of one objective, in place of the guidance model's own. Repeatable.",
    ),
    _option(
        "--through",
        type=click.Choice(("unet", "x0")),
        default="unet",
        show_default=True,
        section=_GUIDANCE,
        help="Differentiate through the diffusion network, or stop at x0 (cheaper).",
    ),
    _option(
        "--see",
        type=click.Choice(("x0", "blend")),
        default="x0",
        show_default=True,
        section=_GUIDANCE,
        help="What the guidance model sees: predicted x0, or x0 blended with x_t.",
    ),
    _option(
        "--device",
        default="auto",
        show_default=True,
        section=_COMPUTE,
        help="auto, cpu, cuda, cuda:N or mps.",
    ),
    _option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="float32",
        show_default=True,
        section=_COMPUTE,
        help="Precision of the networks.",
    ),
    _option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        section=_COMPUTE,
        help="Pictures computed at once.",
    ),
)


def get_manager(ctx: click.Context) -> PluginManager:
    """Return the plugins of this invocation; loads the installed ones where no group has."""
    from guidelens.plugins import PluginManager

    manager = ctx.find_object(PluginManager)
    if manager is None:
        manager = ctx.obj = PluginManager.load()
    return manager


def build_engine(manager: PluginManager, request: EngineRequest) -> tuple[Engine, dict[str, Any]]:
    """Build the networks and the engine that ``request`` asks for, and describe them as JSON values.

    :raises UsageError, GuidelensError: for what cannot be found or built.
    """
    generator = manager.resolve("generator", request.generator)
    guidance = manager.resolve("guidance", request.guidance)
    from guidelens.engine import Engine

    engine = Engine(
        generator.build(),
        guidance.build(),
        steps=request.steps,
        sampler=request.sampler,
        options=request.guidance_options(),
        device=request.device,
        dtype=request.dtype,
        batch_size=request.batch_size,
        eta=request.eta,
    )
    description = {
        **asdict(request),
        "generator": generator.spec,
        "guidance": guidance.spec,
        "objective_scales": dict(sorted(engine.objective_scales.items())),
        "device": str(engine.device),
        "plugins": manager.versions(),
    }
    return engine, description
