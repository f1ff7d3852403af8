"""Options. Each is declared once, as a dataclass field with its type, range, default, help, section and source.

Flags, study keys and the table of docs/guidance.md are made from :class:`Option`. Does not load torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

NONE = "none"
"""The spelling of a missing value on the command line and in study files."""

_OPTION = "guidelens"

Kind = type[bool] | type[int] | type[float] | type[str] | type[dict]


@dataclass(frozen=True)
class Option:
    """The description of one option.

    :param kind: bool, int, float, str, or dict for a number per name.
    :param choices: all allowed values; empty: any value of its kind.
    :param optional: whether it may be None.
    :param least: the smallest allowed number. ``above`` excludes the bound itself.
    :param most: the largest allowed number.
    :param unset: the meaning of the default, if it is None or empty.
    :param source: the publication that introduced it.
    :param page: the docs page that ``--help`` refers to.
    :param flag: its flag on the command line. A bool also has a ``--no-`` form.
    :param study_key: its key in a study file; empty: it is listed under ``options``.
    :param metavar: the placeholder of its value in ``--help``.
    :param reader: replaces the rules above: checks a value and returns it in canonical form.
    :param without_commas: whether values that a reader accepts have no commas. Numbers never have any.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    section: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    least: float | None = None
    above: float | None = None
    most: float | None = None
    unset: str = ""
    source: str = ""
    page: str = ""
    flag: str = ""
    study_key: str = ""
    metavar: str = ""
    reader: Callable[[Any], Any] | None = None
    without_commas: bool = False

    def read(self, value: Any) -> Any:
        """Return ``value``, checked and converted to its type.

        :raises ValueError: for an invalid value. The message says what it must be.
        """
        if value is None and self.optional:
            return None
        if self.reader is not None:
            return self.reader(value)
        if self.choices:
            if value not in self.choices:
                near = get_close_matches(str(value), self.choices, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"must be one of {', '.join(self.choices)}, got {value!r}{hint}")
            return value
        if self.kind is dict:
            return _read_numbers(value)
        if self.kind in (int, float):
            return self._read_number(value)
        if not isinstance(value, self.kind):
            raise ValueError(f"must be {'true or false' if self.kind is bool else 'a text'}, got {value!r}")
        return value

    def parse(self, text: str) -> Any:
        """Return the value that ``text`` means on the command line.

        :raises ValueError: for an invalid text. The message says what it must be.
        """
        if text == NONE and self.optional:
            return None
        if self.kind in (int, float) and self.reader is None:
            try:
                return self.read(self.kind(text))
            except (ValueError, OverflowError):
                raise ValueError(f"must be {self.limits}, got {text[:40]!r}") from None
        return self.read(text)

    @property
    def can_be_swept(self) -> bool:
        """Whether several values can be written with commas between them."""
        return self.without_commas or (self.kind in (int, float) and self.reader is None)

    @property
    def limits(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return ", ".join(self.choices)
        words = {
            int: "a whole number",
            float: "a finite number",
            bool: "true or false",
            dict: "numbers by name",
        }
        what = words.get(self.kind, "a text")
        if self.above is not None:
            return f"{what} above {self.above:g}"
        if self.least is not None and self.most is not None:
            return f"{what} from {self.least:g} to {self.most:g}"
        return what if self.least is None else f"{what}, at least {self.least:g}"

    @property
    def default_text(self) -> str:
        """The default as the user writes it, or its meaning."""
        if self.default in (None, "", {}):
            return self.unset
        if self.kind is bool:
            return "yes" if self.default else "no"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def arguments(self, value: Any) -> list[str]:
        """Return the command-line arguments that set the option to ``value``."""
        if self.kind is dict:
            return [word for name, number in value.items() for word in (self.flag, f"{name}={number!r}")]
        if self.kind is bool:
            return [self.flag if value else self.flag.replace("--", "--no-", 1)]
        return [self.flag, NONE if value is None else str(value)]

    def _read_number(self, value: Any) -> Any:
        allowed = int if self.kind is int else int | float
        if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
            raise ValueError(f"must be {self.limits}, got {value!r}")
        low = self.least if self.least is not None else -math.inf
        high = self.most if self.most is not None else math.inf
        if not low <= value <= high or (self.above is not None and not value > self.above):
            raise ValueError(f"must be {self.limits}, got {value!r}")
        return int(value) if self.kind is int else float(value)


def option(default: Any, help: str, *, section: str, **rules: Any) -> Any:
    """Declare a dataclass field that is an option. ``rules`` are further fields of :class:`Option`."""
    metadata = {_OPTION: {"help": help, "section": section, **rules}}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order."""
    hints = get_type_hints(cls)
    return tuple(_option(part, hints[part.name]) for part in fields(cls) if _OPTION in part.metadata)


def _option(part: Field[Any], annotation: Any) -> Option:
    members = [m for m in _members(annotation) if m is not type(None)]
    literals = [m for m in members if get_origin(m) is Literal]
    kind = str if literals else dict if get_origin(members[0]) is not None else members[0]
    rules = {
        "kind": kind,
        "default": part.default if part.default_factory is MISSING else part.default_factory(),
        "choices": tuple(choice for literal in literals for choice in get_args(literal)),
        "optional": type(None) in _members(annotation),
        "flag": f"--{part.name.replace('_', '-')}",
    }
    return Option(name=part.name, **{**rules, **part.metadata[_OPTION]})


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union. Any other annotation is its own single member."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _read_numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be numbers by name, such as {{'itc': 500}}, got {value!r}")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"must be finite numbers, got {number!r} for {name!r}")
    return {str(name): float(number) for name, number in sorted(value.items())}
