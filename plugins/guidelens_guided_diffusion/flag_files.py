"""Read flags from JSON, or from the lines of a README, a shell script or a notebook. No code is run."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=(?P<words>.*)", re.DOTALL)
_FLAG = re.compile(r"--(?P<name>[A-Za-z]\w*)(?:=(?P<value>.*))?", re.DOTALL)
_LONGEST = 1 << 20


def read_flags_file(path: Path) -> dict[str, Any]:
    """Return the flags of a file by name. Values from a command line are text; others may be numbers or booleans.

    The formats are:

    - a JSON object;
    - ``--name value`` or ``--name=value``: after a command (``python scripts/image_sample.py``), in shell variables
      (``MODEL_FLAGS="..."``), and over several lines;
    - the Python dictionary of a notebook (``model_config.update({...})``). Values that are not literals are ignored.

    :raises GuidelensError: the file cannot be read, or has another format.
    :raises UsageError: a flag has no value, or two.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError("it is longer than a mebibyte")
        text = content.decode("utf-8-sig")
        if re.search(r"(?<!\S)--[A-Za-z]", re.sub(r"[\"']", " ", text)):
            return _from_command_line(text)
        if "update(" in text or text.lstrip().startswith("{'"):
            return _from_notebook(text)
        found = json.loads(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        RecursionError,
    ) as error:  # undecodable text and bad JSON are ValueErrors
        raise GuidelensError(f"cannot read UNet flags from {path}: {error}") from error
    if not isinstance(found, dict):
        raise GuidelensError(f"{path} must hold a JSON object of UNet flags, not a {type(found).__name__}")
    return found


def _from_command_line(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    words = list(_words(text))
    position = 0
    while position < len(words):
        match = _FLAG.fullmatch(words[position])
        position += 1
        if match is None:  # part of the command, or a reference such as $MODEL_FLAGS
            continue
        name, value = match["name"], match["value"]
        if value is None:
            if position == len(words) or _FLAG.fullmatch(words[position]):
                raise UsageError(f"the flag --{name} has no value")
            value = words[position]
            position += 1
        if values.setdefault(name, value) != value:
            raise UsageError(f"the flag --{name} is given twice, as {values[name]} and {value}")
        if position < len(words) and not words[position].startswith(("-", "$", "&", ";", "|", ">")):
            raise UsageError(f"after --{name} {value} comes {words[position]!r}, which is not a flag")
    return values


def _words(text: str) -> Iterator[str]:
    """Split a command line like a shell. Assignments to variables are split into words too."""
    for word in shlex.split(text.replace("\\\r\n", " ").replace("\\\n", " "), comments=True):
        assigned = _ASSIGNMENT.fullmatch(word)
        if assigned is not None:
            yield from shlex.split(assigned["words"])
            yield ";"
        else:
            yield word


def _from_notebook(text: str) -> dict[str, Any]:
    """Return the literals of the first dictionary in Python code. The code is parsed, not run."""
    start, end = text.index("{"), text.rindex("}")
    tree = ast.parse(text[start : end + 1].strip(), mode="eval").body
    if not isinstance(tree, ast.Dict):
        raise ValueError("it holds Python code that is not one dictionary")
    values: dict[str, Any] = {}
    for key, value in zip(tree.keys, tree.values, strict=True):
        try:
            values[str(ast.literal_eval(key))] = ast.literal_eval(value)  # type: ignore[arg-type]  # None: **other
        except (ValueError, TypeError):  # a variable of the notebook, such as use_fp16
            continue
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> Any:
    return value.replace(" ", "") if isinstance(value, str) else value
