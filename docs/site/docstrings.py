"""Docstrings as the site shows them: the roles of Sphinx become links, where the site has the name."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`(?:([^`<]*?) ?<([^`>]+)>|(~?)([^`]+))`")

RAISES = re.compile(r"^( *):raises (\w+), (\w+): ", re.MULTILINE)


class Roles(griffe.Extension):
    """Turns ``:func:`~a.b``` into an optional cross-reference."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of every object once it is loaded."""
        if isinstance(obj, griffe.Object) and obj.docstring:
            text = RAISES.sub(_one_by_one, obj.docstring.value)
            obj.docstring.value = ROLE.sub(_linked, text)


def _one_by_one(match: re.Match[str]) -> str:
    """Give each of two errors its line; the parser knows no lists."""
    margin, first, second = match.groups()
    return f"{margin}:raises {first}: likewise.\n{margin}:raises {second}: "


def _linked(match: re.Match[str]) -> str:
    title, target, tilde, name = match.groups()
    identifier = target or name
    shown = title or (identifier.rpartition(".")[2] if tilde else identifier)
    return (
        f'<autoref optional identifier="{identifier.lstrip("~.")}"><code>{shown.strip("`")}</code></autoref>'
    )
