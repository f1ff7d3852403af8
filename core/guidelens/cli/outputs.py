"""Default places of results, printing results as JSON, and opening pages."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .prompt_options import DRAWING
from .sections import option

json_option = option(
    "--json", "as_json", is_flag=True, section=DRAWING, help="Print the results as JSON instead of a table."
)
"""The declaration of ``--json``. It sets ``as_json``."""

LONGEST_NAME = 40
"""The largest number of characters of a default name that come from the prompt."""


def open_option(what: str) -> Callable[[Any], Any]:
    """Return the declaration of ``--open``. It sets ``open_it``."""
    return option(
        "--open", "open_it", is_flag=True, section=DRAWING, help=f"Open the {what} in the browser at the end."
    )


def name_of(text: str) -> str:
    """Return a file name made from a text: ``A red circle!`` becomes ``a-red-circle``."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:LONGEST_NAME].rstrip("-") or "untitled"


def default_directory(about: str, words: Sequence[str]) -> Path:
    """Return the directory below ``runs`` for a command line. The same words give the same directory.

    So an interrupted command resumes when it is repeated.

    :param about: the beginning of the name, such as the first prompt.
    """
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=3).hexdigest()
    return Path("runs") / f"{name_of(about)}-{digest}"


def print_json(data: Mapping[str, Any]) -> None:
    """Print data as JSON on standard output. Numbers that are not finite become null."""
    click.echo(json.dumps(_finite(data), indent=2, ensure_ascii=False))


def open_page(path: Path) -> None:
    """Open a page in the browser of this machine, if it has one."""
    import webbrowser

    webbrowser.open(path.resolve().as_uri())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
