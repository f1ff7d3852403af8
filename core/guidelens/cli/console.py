"""Output of the command line: results go to stdout, everything else to stderr. rich is imported when first used."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100
"""The width in characters if the output is not a terminal, so that a file or a pipe gets whole table rows."""


def out() -> Console:
    """Return the console for results, on the current stdout. Colour depends on the terminal and ``NO_COLOR``."""
    return _console(stderr=False)


def err() -> Console:
    """Return the console for progress and warnings, on the current stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Each call makes a new console, because rich reads NO_COLOR only once and tests replace the streams.
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(stderr=stderr, highlight=False, width=width, soft_wrap=not stream.isatty())


def print_out(text: str, *, nl: bool = True) -> None:
    """Write text with click's styles to stdout, without rich. Styles are removed for a pipe or with ``NO_COLOR``."""
    click.echo(text, nl=nl, color=_coloured(sys.stdout))


def echo_line(level: str, message: str) -> None:
    """Write ``level: message`` as one line on stderr, without rich."""
    colours = {"error": "red", "warning": "yellow"}
    label = click.style(f"{level}:", fg=colours.get(level), bold=True)
    click.echo(f"{label} {' '.join(message.split())}", err=True, color=_coloured(sys.stderr))


def _coloured(stream: TextIO) -> bool:
    """Return whether a stream is a terminal and ``NO_COLOR`` is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            echo_line(record.levelname.lower(), record.getMessage())
        except Exception:
            self.handleError(record)


@contextmanager
def log_lines(*, quiet: bool = False) -> Iterator[None]:
    """Show the log of guidelens on stderr while the block runs, one line per record, from warnings up.

    The log of a plugin is shown if its logger's name begins with ``guidelens.``. ``quiet`` shows nothing.
    """
    log = logging.getLogger("guidelens")
    handler, level = logging.NullHandler() if quiet else _LineHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def set_verbosity(count: int) -> None:
    """Set what :func:`log_lines` shows: 0 is warnings, 1 is information, 2 or more is everything."""
    logging.getLogger("guidelens").setLevel({0: logging.WARNING, 1: logging.INFO}.get(count, logging.DEBUG))
