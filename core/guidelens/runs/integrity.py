"""Files of a run that are as they were written: rows have the SHA-256 of their picture and telemetry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError
from guidelens.files import explained


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def recorded_hash(row: Mapping[str, Any], file: str) -> str:
    """Return the SHA-256 that a row has of its ``image`` or ``telemetry``; empty where it has none."""
    return str(row.get("sha256", {}).get(file, ""))


def is_unchanged(path: Path, sha256: str) -> bool:
    """Return whether a file exists and has the hash ``sha256``."""
    return path.is_file() and sha256_of(path.read_bytes()) == sha256


def read_unchanged(path: Path, sha256: str) -> bytes:
    """Return the content of a picture or telemetry file of a run.

    :param sha256: the recorded hash; empty: not known.
    :raises GuidelensError: the file cannot be read, or has changed since it was written.
    """
    with explained(f"cannot read {path}"):
        content = path.read_bytes()
    if sha256 and sha256_of(content) != sha256:
        raise GuidelensError(
            f"{path} is damaged: it has changed since it was written; {again(path.parent.parent)}"
        )
    return content


def again(directory: Path) -> str:
    """Return the advice for a damaged file of a run in ``directory``."""
    return f"guidelens study resume {directory}, or the command that made the run, computes it again"
