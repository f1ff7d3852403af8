"""Paths as options and arguments of commands."""

from __future__ import annotations

import os
from typing import Any

import click


class UserPath(click.Path):
    """A path in which a leading ``~`` means the user's home. Shells do not expand it in ``--out=~/runs``."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the path, expanded and checked as by :class:`click.Path`."""
        return super().convert(os.path.expanduser(value), param, ctx)
