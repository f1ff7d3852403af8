"""Read the help texts of options from the docstring of a factory."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

_FIELD = re.compile(r"^:param (?:[^:\s]+ )?\*{0,2}(\w+):(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_ROLE = re.compile(r":\w+:`~?([^`]*)`")


def parameter_texts(factory: Callable[..., Any]) -> dict[str, str]:
    """Return the text of every ``:param NAME:`` of a function, or of a class and its ``__init__``, each on one
    line."""
    inner: Any = inspect.unwrap(factory)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    places = (inner, inner.__init__) if inspect.isclass(inner) else (inner,)
    texts: dict[str, str] = {}
    for place in places:
        doc = getattr(place, "__doc__", None)
        if isinstance(doc, str):
            texts |= {name: _plain(text) for name, text in _FIELD.findall(inspect.cleandoc(doc))}
    return texts


def _plain(text: str) -> str:
    """Return text without markup, on one line."""
    return " ".join(_ROLE.sub(r"\1", text).replace("`", "").split())
