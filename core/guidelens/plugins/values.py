"""The options of a component, from its factory's signature, and the conversion of their values from text."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from guidelens.errors import UsageError
from guidelens.text import STDIN

from .docstrings import parameter_texts
from .spelling import suggestion

REQUIRED = inspect.Parameter.empty
"""Default of a required option."""

_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True)
class OptionInfo:
    """An option of a component.

    :param name: its spelling; ``*`` for options with any name (``**kwargs`` in the factory).
    :param annotation: the type, evaluated if possible.
    :param default: the default value, or :data:`REQUIRED`.
    :param help: its description in the factory's docstring, on one line; may be empty.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    help: str = ""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED and self.name != "*"

    @property
    def default_text(self) -> str | None:
        """The spelling of the default; None without a default."""
        return None if self.default is REQUIRED else format_value(self.default)

    @property
    def type_name(self) -> str:
        """The type as shown to users, for instance ``int or none``, ``cosine|infonce``."""
        return f"{self.component} spec" if self.component else _describe(self.annotation)

    @property
    def component(self) -> str:
        """The kind of component that it takes, if any: ``Annotated[Component, "guidance"]``."""
        if typing.get_origin(self.annotation) is typing.Annotated:
            base, *extra = typing.get_args(self.annotation)
            if getattr(base, "__name__", "") == "Component" and extra and isinstance(extra[0], str):
                return extra[0]
        return ""

    @property
    def choices(self) -> tuple[str, ...]:
        """Its possible values as text; empty if they are not a short list."""
        found: list[str] = []
        for member in _members(self.annotation):
            if literals := _literals(member):
                found += map(str, literals)
            elif member is bool:
                found += ["true", "false"]
            elif member is type(None):
                found.append("none")
        return tuple(found)

    @property
    def takes_path(self) -> bool:
        """Whether its value is always a path."""
        return Path in _members(self.annotation)

    @property
    def _may_be_path(self) -> bool:
        """Whether its value is a name or a path: ``Annotated[str, "path"]``."""
        if typing.get_origin(self.annotation) is not typing.Annotated:
            return False
        return "path" in typing.get_args(self.annotation)[1:]

    def located(self, value: Any, base: Path) -> Any:
        """Return a value with a relative path in it taken from the folder ``base``.

        Text that may be a name or a path is a path where such a file exists. A folder is written with a slash.
        """
        if isinstance(value, Path):
            return value if str(value) == STDIN else base / value
        if self._may_be_path and value:
            path = base / Path(value).expanduser()
            return str(path) if path.is_file() or ("/" in value and path.exists()) else value
        return value

    def convert(self, text: str) -> Any:
        """Return the value of ``text``.

        :raises ValueError: with what was expected.
        """
        return _convert(self.annotation, text)


def options_of(factory: Callable[..., Any]) -> tuple[OptionInfo, ...]:
    """Read a factory's options from its signature.

    Annotations are evaluated one by one, because a return type often exists for type checkers only. If an annotation
    is missing or cannot be evaluated, the type of the default is used, or text without a default.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return ()
    namespace = _namespace(factory)
    texts = parameter_texts(factory)
    options = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            continue
        name = "*" if parameter.kind == parameter.VAR_KEYWORD else parameter.name
        text = texts.get(parameter.name, "")
        options.append(OptionInfo(name, _annotation(parameter, namespace), parameter.default, text))
    return tuple(options)


def _namespace(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the globals for evaluating a factory's annotations."""
    inner: Any = inspect.unwrap(factory)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    return {**vars(typing), **getattr(inner, "__globals__", vars(module) if module else {})}


def _annotation(parameter: inspect.Parameter, namespace: dict[str, Any]) -> Any:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, namespace)
        except Exception:  # a name that only type checkers see; use the type of the default
            annotation = parameter.empty
    if annotation is parameter.empty or annotation is Any:
        known = type(parameter.default) in (bool, int, float, str)
        return type(parameter.default) if known else str
    return annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself. Text is last, because it accepts anything."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        members = [m for part in typing.get_args(annotation) for m in _members(part)]
        return tuple(sorted(members, key=lambda member: member in (str, Path)))
    return (annotation,)


def _convert(annotation: Any, text: str) -> Any:
    members = _members(annotation)
    for member in members:
        try:
            return _convert_single(member, text)
        except ValueError:
            continue
    choices = [str(value) for member in members for value in _literals(member)]
    raise ValueError(f"expected {_describe(annotation)}, not {text[:200]!r}{suggestion(text[:200], choices)}")


def _literals(member: Any) -> tuple[Any, ...]:
    return typing.get_args(member) if typing.get_origin(member) is Literal else ()


def _convert_single(member: Any, text: str) -> Any:
    if member in (str, Any):
        return text
    if member is Path:
        return Path(text).expanduser()
    if member is bool:
        return _lookup(_TRUTH, text.lower())
    if member is int:
        return int(text)
    if member is float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return value
    if member is type(None):
        return _lookup({"none": None}, text.lower())
    if typing.get_origin(member) is Literal:
        return _lookup({str(value): value for value in typing.get_args(member)}, text)
    raise ValueError(text)


def _lookup(table: Mapping[str, Any], text: str) -> Any:
    if text not in table:
        raise ValueError(text)
    return table[text]


def _describe(annotation: Any) -> str:
    names = {int: "int", float: "float", bool: "true|false", str: "text", Path: "path", type(None): "none"}
    parts = []
    for member in _members(annotation):
        if literals := _literals(member):
            parts.append("|".join(map(str, literals)))
        else:
            parts.append(names.get(member) or f"{getattr(member, '__name__', member)} (from Python only)")
    return " or ".join(parts)


def format_value(value: Any) -> str:
    """Return a value as text that :meth:`OptionInfo.convert` reads."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def check_options(
    what: str,
    options: tuple[OptionInfo, ...],
    given: Mapping[str, str],
    resolve: Callable[[str, str], Any] | None = None,
) -> dict[str, Any]:
    """Return the values in ``given``, in the order of the signature. Names for ``**kwargs`` follow, sorted.

    :param what: names the component in errors.
    :param resolve: returns a component of a kind by its spelling, for options that take one.
    :raises UsageError: for an unknown option, a value that does not fit, or a required option that is
        missing.
    """
    named = {option.name: option for option in options if option.name != "*"}
    free = next((option for option in options if option.name == "*"), None)
    values: dict[str, Any] = {}
    for key, text in given.items():
        name = key.replace("-", "_") if key.replace("-", "_") in named else key
        option = named.get(name, free)
        if option is None:
            offered = f"it has {', '.join(named)}" if named else "it has none"
            raise UsageError(f"{what} has no option {key!r}{suggestion(key, named)}; {offered}")
        if option.component and resolve is not None:
            values[name] = resolve(option.component, text)
            continue
        try:
            values[name] = option.convert(text)
        except ValueError as error:
            raise UsageError(f"{what}, option {key!r}: {error}") from None
    missing = [option for option in options if option.required and option.name not in values]
    if missing:
        wanted = ", ".join(f"{option.name}=({option.type_name})" for option in missing)
        raise UsageError(f"{what} cannot do without {wanted}")
    order = {name: position for position, name in enumerate(named)}
    return dict(sorted(values.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
