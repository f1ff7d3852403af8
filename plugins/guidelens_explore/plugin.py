"""The explorer as a guidelens plugin: one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add ``guidelens explore``."""
    from .cli import explore

    cli.add_command(explore)
