"""Atomic files: a file always has either its old or its new content. I/O errors become one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import GuidelensError

TEMPORARY = ".tmp~"
"""The suffix of unfinished files. Their names begin with a dot. An interruption may leave such files behind."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``, and move it to ``path`` when the block ends.

    The temporary file is flushed to the disk first, so a power cut leaves either the old or the new content.
    If the block raises, the temporary file is removed and ``path`` keeps its content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically.

    :raises OSError: if the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_file(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically.

    :raises GuidelensError: if the file cannot be written, with a message of one line.
    """
    with explained(f"cannot write {path}"):
        atomic_write(path, content)


def check_writable(path: Path) -> None:
    """Create the directory of ``path`` if it is missing, and check that a file can be written there.

    An existing file at ``path`` is not changed.

    :raises GuidelensError: if no file can be written.
    """
    with explained(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
        probe.touch()
        probe.unlink()


@contextmanager
def explained(message: str) -> Iterator[None]:
    """Turn an OSError in the block into a GuidelensError of one line: ``message``, the reason, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            reason += "; free some space and run the same command again (finished files are kept)"
        raise GuidelensError(f"{message}: {reason}") from error
