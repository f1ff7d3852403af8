"""Click options under headings, and how options are declared that way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class SectionedOption(click.Option):
    """An option that ``--help`` lists under a heading of its own."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose ``--help`` groups options by their section, in the order in which these first come."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options", [])  # --help and its like come last
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def option(*names: str, section: str, **kwargs: Any) -> Callable[[Any], Any]:
    """Return :func:`click.option` whose option stands in ``section`` of the help."""
    return click.option(*names, cls=SectionedOption, section=section, **kwargs)
