"""Errors that a user can act on: each is shown as one line, without a traceback."""

from __future__ import annotations


class GuidelensError(Exception):
    """An expected failure. The message says what was wrong, with which value, and what to do.

    The command line prints it as one line and exits with :attr:`exit_code`; anything that is not a
    ``GuidelensError`` is a bug and keeps its traceback.
    """

    exit_code = 1


class UsageError(GuidelensError):
    """The request itself is off: an unknown component, option or value. Exit code 2."""

    exit_code = 2
