"""The flags of sampling: one for every option of :class:`guidelens.sampling.Sampling`, made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from guidelens.errors import UsageError
from guidelens.sampling import Option, Sampling, options

from .sections import option


@dataclass(frozen=True)
class Swept:
    """Several values of an option, each to be drawn with."""

    values: tuple[Any, ...]


class OptionValue(click.ParamType):
    """A value of an option, checked as the option says.

    :param sweeps: also accept several values with commas between them, as :class:`Swept`.
    """

    def __init__(self, known: Option, *, sweeps: bool = False) -> None:
        self._option = known
        self._sweeps = sweeps
        names = {int: "N", float: "X", str: "TEXT"}
        self.name = known.metavar or names.get(known.kind, "VALUE")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that a text stands for."""
        if isinstance(value, Swept):
            return value
        try:
            if self._sweeps and isinstance(value, str) and "," in value:
                parts = [part.strip() for part in value.split(",") if part.strip()]
                return Swept(tuple(dict.fromkeys(self._option.parse(part) for part in parts)))
            return self._option.parse(value) if isinstance(value, str) else self._option.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _read_pairs(_ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Read ``NAME=VALUE`` options into a dict."""
    flag, pairs = parameter.opts[0], {}
    for text in values:
        name, equals, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UsageError(
                f"{flag} {text!r}: write NAME=NUMBER, such as itc=2.5", setting=parameter.name or ""
            )
        if name in pairs:
            raise UsageError(f"{flag} names {name!r} twice", setting=parameter.name or "")
        pairs[name] = value
    return pairs


def can_be_swept(known: Option) -> bool:
    """Whether an option is a number, so that a comma can only mean another value."""
    return known.kind in (int, float) and known.reader is None


def sampling_flag(known: Option, *, sweeps: bool = False) -> Callable[[Any], Any]:
    """Return the declaration of an option's flag, which names its default in its help.

    :param sweeps: the flag of a number takes several of them, with commas between.
    """
    default = known.default_text
    page = f" See {known.page}." if known.page else ""
    help = known.help + page + (f"  [default: {default}]" if default else "")
    if known.kind is bool:
        spelling = f"{known.flag}/{known.flag.replace('--', '--no-', 1)}"
        return option(spelling, known.name, default=known.default, section=known.section, help=help)
    if known.kind is dict:
        return option(
            known.flag,
            known.name,
            metavar=known.metavar,
            multiple=True,
            callback=_read_pairs,
            section=known.section,
            help=help,
        )
    kind = (
        click.Choice(known.choices)
        if known.choices
        else OptionValue(known, sweeps=sweeps and can_be_swept(known))
    )
    return option(
        known.flag,
        known.name,
        type=kind,
        default=known.default,
        show_default=False,
        section=known.section,
        help=help,
    )


def sampling_flags(*sections: str, sweeps: bool = False) -> list[Callable[[Any], Any]]:
    """Return the declarations of the flags in these sections, all of them where none is named."""
    return [
        sampling_flag(known, sweeps=sweeps)
        for known in options()
        if not sections or known.section in sections
    ]


def sampling_of(ctx: click.Context, preset: str | None, values: dict[str, Any]) -> Sampling:
    """Return the sampling that a command line asks for: its flags, on top of a preset's options.

    :param values: of all flags; those that the user did not give are ignored.
    :raises UsageError: for values that do not fit each other.
    """
    given = {name: value for name, value in values.items() if _is_given(ctx, name)}
    return Sampling.of(given) if preset is None else Sampling.preset(preset, **given)


def _is_given(ctx: click.Context, name: str) -> bool:
    unset = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP, None)
    return ctx.get_parameter_source(name) not in unset
