"""Help texts with options under headings, and lists of commands with full summaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .completion import ComponentCompleter


class SectionedOption(click.Option):
    """An option that ``--help`` lists under a heading, with the components that it accepts."""

    def __init__(
        self, *args: Any, section: str = "Options", shell_complete: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, shell_complete=shell_complete, **kwargs)
        self.section = section
        self._completer = shell_complete

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return click's record, with the components of the loaded plugins added."""
        record = super().get_help_record(ctx)
        if record is None or not isinstance(self._completer, ComponentCompleter):
            return record
        names, default = self._completer.names(ctx), self._completer.default(ctx)
        choices = f"  One of: {', '.join(names)}." if names else ""
        given = f"  [default: {default}]" if default and "[default: " not in record[1] else ""
        return record[0], f"{record[1]}{choices}{given}"


class SectionedCommand(click.Command):
    """A command whose ``--help`` groups options by section, in the order in which they are declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options", [])  # general options such as --help come last
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class CommandGroup(click.Group):
    """A group whose ``--help`` lists its commands with full summaries. click shortens long summaries."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their summaries."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary_of(found)) for name, found in commands.items() if found])


def summary_of(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    return command.get_short_help_str(limit=1_000)


def option(*names: str, section: str, **kwargs: Any) -> Callable[[Any], Any]:
    """Return :func:`click.option` for an option that the help lists under ``section``."""
    return click.option(*names, cls=SectionedOption, section=section, **kwargs)
