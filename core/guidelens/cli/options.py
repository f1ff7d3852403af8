"""Options that several commands share: which networks, which sampler, how much guidance, on which device."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guidelens.errors import UsageError

from .completion import complete_component, complete_plugin
from .guidance_flags import GUIDANCE_FLAGS
from .sections import SectionedCommand, SectionedOption, option

if TYPE_CHECKING:
    from guidelens.engine import Engine
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager

__all__ = [
    "DTYPES",
    "SAMPLERS",
    "BatchSize",
    "EngineRequest",
    "SectionedCommand",
    "SectionedOption",
    "build_engine",
    "engine_options",
    "get_manager",
]

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("float32", "bfloat16", "float16", "float64")
SAMPLERS = ("ddpm", "ddim")


@dataclass(frozen=True)
class EngineRequest:
    """What the engine options of a command line ask for; nothing is loaded or built yet.

    ``generator`` and ``guidance`` are component spellings, None for the default. Options of the guidance are
    those of :class:`guidelens.guidance.GuidanceOptions`, None where the preset or the default is to stand.
    """

    generator: str | None = None
    guidance: str | None = None
    preset: str | None = None
    sampler: str = "ddpm"
    steps: int | str = 50
    eta: float = 0.0
    fixed_variance: str | None = None
    clip_denoised: bool | None = None
    clip_after_guidance: bool | None = None
    scale: float | None = None
    objective_scales: dict[str, float] = field(default_factory=dict)
    through: str | None = None
    see: str | None = None
    into: str | None = None
    normalize: str | None = None
    clip_norm: float | None = None
    range_scale: float | None = None
    augment: str | None = None
    augmentations: int | None = None
    augment_strength: float | None = None
    smoothing: int | None = None
    smoothing_average: str | None = None
    smoothing_radius: float | None = None
    start: float | None = None
    stop: float | None = None
    every: int | None = None
    recurrence: int | None = None
    recurrence_start: float | None = None
    recurrence_stop: float | None = None
    dose: str | None = None
    dose_steps: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int | str = 16

    @classmethod
    def of(cls, **values: Any) -> EngineRequest:
        """Return the request with a sampler and eta of None replaced by the preset's."""
        own = _sampling_of(values.get("preset"))
        chosen = {name: own[name] if values.get(name) is None else values[name] for name in own}
        if values.get("eta") is None and chosen["sampler"] != own["sampler"]:
            chosen["eta"] = 0.0  # the preset's belongs to its sampler
        return cls(**{**values, **chosen})

    def guidance_options(self) -> GuidanceOptions:
        """Return the options of the guidance: the preset's, replaced by what was asked for.

        :raises UsageError: for an unknown preset, or values that do not fit.
        """
        from guidelens.guidance import GuidanceOptions

        names = {part.name for part in fields(GuidanceOptions)}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.preset is None:
            return GuidanceOptions.of(given)
        return GuidanceOptions.preset(self.preset, **given)

    def arguments(self) -> list[str]:
        """Return the command-line arguments that ask for this, those at their default left out."""
        listed: list[str] = []
        own = _sampling_of(self.preset)
        for part in fields(self):
            value, flag = getattr(self, part.name), f"--{part.name.replace('_', '-')}"
            if part.name == "objective_scales":
                for name, scale in value.items():
                    listed += ["--objective-scale", f"{name}={scale!r}"]
            elif part.name in ("clip_denoised", "clip_after_guidance"):
                listed += [] if value is None else [flag if value else flag.replace("--", "--no-", 1)]
            elif value != own.get(part.name, part.default):
                listed += [flag, str(value)]
        return listed

    def command_line(self) -> str:
        """Return :meth:`arguments` quoted for a POSIX shell."""
        return shlex.join(self.arguments())


def _sampling_of(preset: str | None) -> dict[str, Any]:
    """The sampler and eta of a preset; the defaults without one."""
    from guidelens.guidance import find_preset

    if preset is None:
        return {"sampler": "ddpm", "eta": 0.0}
    found = find_preset(preset)
    return {"sampler": found.sampler, "eta": found.eta}


def engine_options(function: F) -> F:
    """Give a command the options that choose an engine; its function gets ``engine``, an EngineRequest.

    Use it with ``cls=SectionedCommand``. ``--plugin`` is shown too, although it is read before the command
    line is.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen = {part.name: kwargs.pop(part.name) for part in fields(EngineRequest)}
        return function(*args, engine=EngineRequest.of(**chosen), **kwargs)

    decorated: Any = wrapper
    for declare in reversed(_ENGINE_OPTIONS):
        decorated = declare(decorated)
    return decorated


class BatchSize(click.ParamType):
    """A whole number from 1 on, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or ``auto``."""
        if value == "auto" or (isinstance(value, int) and value >= 1):
            return value
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number from 1 on nor auto", param, ctx)
        return int(value)


class Steps(click.ParamType):
    """A number of sampling steps, or a respacing such as ``ddim25``."""

    name = "N|ddimN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return it in its one spelling."""
        from guidelens.runs.config import join_steps, split_steps

        try:
            return join_steps(*split_steps(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


_MODELS, _SAMPLING, _COMPUTE = "Models", "Sampling", "Computing"

_ENGINE_OPTIONS = (
    option(
        "--generator",
        metavar="SPEC",
        shell_complete=complete_component("generator"),
        section=_MODELS,
        help="Diffusion model that draws: name or name:key=value,key=value.  [default: the plugin's]",
    ),
    option(
        "--guidance",
        metavar="SPEC",
        shell_complete=complete_component("guidance"),
        section=_MODELS,
        help="Vision-language model that steers, spelled likewise.  [default: the plugin's]",
    ),
    option(
        "-p",
        "--plugin",
        metavar="X",
        multiple=True,
        expose_value=False,
        shell_complete=complete_plugin,
        section=_MODELS,
        help="Load plugin X (name, module or .py file) and prefer what it offers; no:X blocks it.",
    ),
    option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        section=_SAMPLING,
        help="Reverse process.  [default: ddpm, or the preset's]",
    ),
    option(
        "--steps",
        type=Steps(),
        default=50,
        show_default=True,
        section=_SAMPLING,
        help="Sampling steps, spread evenly; ddim25: 25 at one stride; 10,10,5: so many in each third of the "
        "timesteps, the cleanest first.",
    ),
    option(
        "--eta",
        type=click.FloatRange(min=0, max=1),
        section=_SAMPLING,
        help="Noise of the ddim sampler: 0 none, 1 as much as ddpm.  [default: 0, or the preset's]",
    ),
    option(
        "--fixed-variance",
        type=click.Choice(("small", "large")),
        section=_SAMPLING,
        help="Variance of the ddpm sampler: the posterior's, or beta.  "
        "[default: the generator's, else small]",
    ),
    option(
        "--clip-denoised/--no-clip-denoised",
        default=None,
        section=_SAMPLING,
        help="Clamp the predicted x0 in the reverse step.  [default: clamp]",
    ),
    option(
        "--clip-after-guidance/--no-clip-after-guidance",
        default=None,
        section=_SAMPLING,
        help="Clamp x0 after guidance moved it, not before (ddim).  [default: before]",
    ),
    *GUIDANCE_FLAGS,
    option(
        "--device",
        default="auto",
        show_default=True,
        section=_COMPUTE,
        help="auto, cpu, cuda, cuda:N or mps.",
    ),
    option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="float32",
        show_default=True,
        section=_COMPUTE,
        help="Precision of the networks.",
    ),
    option(
        "--batch-size",
        type=BatchSize(),
        default=16,
        show_default=True,
        section=_COMPUTE,
        help="Pictures computed at once; auto: as many as should fit into memory.",
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
    from guidelens.weights.store import build_all

    engine = Engine(
        *build_all(generator.build, guidance.build),
        steps=request.steps,
        sampler=request.sampler,
        options=request.guidance_options(),
        device=request.device,
        dtype=request.dtype,
        batch_size=request.batch_size,  # type: ignore[arg-type]  # a number or "auto"
        eta=request.eta,
    )
    description = {
        **asdict(request),
        **engine.options.described(),
        "generator": generator.spec,
        "guidance": guidance.spec,
        "objective_scales": dict(sorted(engine.objective_scales.items())),
        "device": str(engine.device),
        "plugins": manager.versions(),
    }
    return engine, description
