"""Errors that a user can act on. Each is shown as one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class GuidelensError(Exception):
    """An expected failure. The message says what was wrong, with which value, and what to do.

    The command line prints it as one line and exits with :attr:`exit_code`. Any other exception is a bug and keeps its
    traceback.

    :param setting: the name of the wrong setting, such as ``scale`` or ``device``; empty if it is not a single one.
        Study files use it to find the line.
    """

    exit_code = 1

    def __init__(self, *args: object, setting: str = "") -> None:
        super().__init__(*args)
        self.setting = setting


class UsageError(GuidelensError):
    """The request itself is wrong: an unknown component, option or value. Exit code 2."""

    exit_code = 2


class MissingPackageError(GuidelensError):
    """An optional package is not installed. The message has the command that installs it."""


@contextmanager
def concerning(setting: str) -> Iterator[None]:
    """Add the name of the wrong setting to usage errors that are raised inside, unless they already have one."""
    try:
        yield
    except UsageError as error:
        error.setting = error.setting or setting
        raise
