"""Errors that a user can act on: each is shown as one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class GuidelensError(Exception):
    """An expected failure. The message says what was wrong, with which value, and what to do.

    The command line prints it as one line and exits with :attr:`exit_code`; anything that is not a
    ``GuidelensError`` is a bug and keeps its traceback.

    :param setting: the name of the setting that is at fault, such as ``scale`` or ``device``; empty where no
        single one is. Study files use it to find the line.
    """

    exit_code = 1

    def __init__(self, *args: object, setting: str = "") -> None:
        super().__init__(*args)
        self.setting = setting


class UsageError(GuidelensError):
    """The request itself is wrong: an unknown component, option or value. Exit code 2."""

    exit_code = 2


@contextmanager
def concerning(setting: str) -> Iterator[None]:
    """Give usage errors that are raised inside the name of the setting at fault, where they have none."""
    try:
        yield
    except UsageError as error:
        error.setting = error.setting or setting
        raise
