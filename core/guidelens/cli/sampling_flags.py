"""The flags of sampling. Each flag is made from an option of :class:`guidelens.sampling.Sampling`."""

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
    """Several values of an option. Pictures are drawn with each of them."""

    values: tuple[Any, ...]


class OptionValue(click.ParamType):
    """A value of an option, checked by the rules of the option.

    :param sweeps: whether to accept several values with commas between them, as :class:`Swept`.
    """

    def __init__(self, known: Option, *, sweeps: bool = False) -> None:
        self._option = known
        self._sweeps = sweeps
        names = {int: "N", float: "X", str: "TEXT"}
        self.name = known.metavar or names.get(known.kind, "VALUE")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that a text means."""
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


def sampling_flag(known: Option, *, sweeps: bool = False) -> Callable[[Any], Any]:
    """Return the declaration of an option's flag. The help includes the default.

    :param sweeps: whether the flag of a number accepts several numbers with commas between them.
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
        else OptionValue(known, sweeps=sweeps and known.can_be_swept)
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
    """Return the declarations of the flags in these sections, or of all flags if no section is given."""
    return [
        sampling_flag(known, sweeps=sweeps)
        for known in options()
        if not sections or known.section in sections
    ]


def sampling_of(ctx: click.Context, preset: str | None, values: dict[str, Any]) -> Sampling:
    """Return the sampling that a command line requests. Its flags override the options of a preset.

    :param values: the values of all flags. Flags that the user did not give are ignored.
    :raises UsageError: for values that conflict.
    """
    given = {name: value for name, value in values.items() if _is_given(ctx, name)}
    return Sampling.of(given) if preset is None else Sampling.preset(preset, **given)


def _is_given(ctx: click.Context, name: str) -> bool:
    unset = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP, None)
    return ctx.get_parameter_source(name) not in unset
