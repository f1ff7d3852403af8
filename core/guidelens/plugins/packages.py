"""Install and inspect packages in the environment of guidelens, and find their plugins."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from guidelens.errors import GuidelensError

from .manager import ENVIRONMENT
from .requirements import normalized

_NOT_HERE = "import sys; sys.path[:] = [p for p in sys.path if p]; "
"""Start of a program for ``python -c``. Like ``-m``, ``-c`` puts the working directory first on the path, as an empty
entry. This removes it."""

_LIST_PLUGINS = f"{_NOT_HERE}from guidelens.cli.main import cli; cli(['plugins', 'list', '--json'])"

_RUN_PIP = f"{_NOT_HERE}from runpy import run_module; run_module('pip', run_name='__main__', alter_sys=True)"


@dataclass(frozen=True)
class Package:
    """An installed distribution.

    :param name: as spelled in its metadata.
    :param folder: the local folder or file it was installed from; None if it came from an index.
    """

    name: str
    version: str
    folder: Path | None = None

    @property
    def title(self) -> str:
        """Its name in messages: ``name version``."""
        return f"{self.name} {self.version}"


def installed() -> dict[str, Package]:
    """Return every installed distribution by its normalized name."""
    importlib.invalidate_caches()  # packages may have been installed since the last call
    found: dict[str, Package] = {}
    for dist in metadata.distributions():
        name: str | None = dist.name
        if name:  # leftovers may have no name; of two with one name, Python imports the first on the path
            found.setdefault(normalized(name), Package(name, dist.version, _folder(dist)))
    return found


def _folder(dist: metadata.Distribution) -> Path | None:
    """Return the local folder or file that ``dist`` was installed from (PEP 610)."""
    try:
        parts = urlsplit(json.loads(dist.read_text("direct_url.json") or "{}").get("url", ""))
    except ValueError:
        return None
    return Path(url2pathname(unquote(parts.path))) if parts.scheme == "file" else None


def touched(wanted: Iterable[str], before: Mapping[str, Package]) -> tuple[list[Package], list[Package]]:
    """Return the packages in ``wanted``, and all packages that differ from ``before``.

    :param wanted: arguments of pip: requirements or paths.
    """
    after = installed()
    named = []
    for text in wanted:
        path = Path(text).expanduser()
        folder = path.resolve() if path.exists() else None
        match = re.match(r"[A-Za-z0-9._-]+", text)
        name = normalized(match[0]) if match else ""
        from_there = [p for p in after.values() if folder is not None and p.folder == folder]
        named += from_there or ([after[name]] if name in after else [])
    named = list(dict.fromkeys(named))
    others = [p for key, p in after.items() if before.get(key) != p and p not in named]
    return named, others


def plugins_now() -> list[dict[str, Any]]:
    """Return the output of ``guidelens plugins list --json`` in a new process.

    :raises GuidelensError: guidelens no longer starts.
    """
    environment = {key: value for key, value in os.environ.items() if key != ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", _LIST_PLUGINS], capture_output=True, text=True, env=environment, check=False
    )
    try:
        listed = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise GuidelensError(f"guidelens no longer starts: {last}") from None
    assert isinstance(listed, list)
    return listed


def pip() -> list[str]:
    """Return the command that installs packages for this interpreter: its pip, or uv.

    :raises GuidelensError: there is neither.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-c", _RUN_PIP]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip"]
    raise GuidelensError(
        f"{sys.executable} has no pip, and uv is not installed either; run "
        f"`{sys.executable} -m ensurepip`, or install the package with the tool that made the environment"
    )


def install(arguments: Sequence[str]) -> None:
    """Run ``pip install`` for this interpreter, and show its output.

    :raises GuidelensError: if pip fails or is missing.
    """
    _run("install", arguments)


def uninstall(names: Sequence[str]) -> None:
    """Run ``pip uninstall`` for this interpreter without asking.

    :raises GuidelensError: if pip fails or is missing.
    """
    _run("uninstall", names)


def _run(action: str, arguments: Sequence[str]) -> None:
    command = pip()
    ours = command[0] == sys.executable
    options = ["--disable-pip-version-check"] if ours else ["--python", sys.executable]
    if ours and action == "uninstall":
        options.append("--yes")
    sys.stdout.flush()
    done = subprocess.run([*command, action, *options, *arguments], check=False)
    if done.returncode:
        tool = "pip" if ours else "uv pip"
        raise GuidelensError(f"{tool} {action} failed with exit code {done.returncode}; it says why above")
