"""Write a plugin package atomically, after checking its name."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import string
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from guidelens import __version__
from guidelens.contracts import CONTRACT_VERSION
from guidelens.errors import GuidelensError, UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class _Kind:
    """A kind of package.

    :param module: the module beside ``plugin.py`` with the component.
    :param use: arguments of ``guidelens`` that use it, for the README.
    """

    module: str
    description: str
    use: str


KINDS: dict[str, _Kind] = {
    "guidance": _Kind(
        "objective",
        "a guidance model for guidelens with its own objective",
        'generate "a red circle" -p $name --schedule objective:name=$name --out x.png',
    ),
    "schedule": _Kind(
        "schedule",
        "a schedule over objectives for guidelens",
        'compare "a red circle" --schedule $name --schedule $name:hold=0.5 --out runs/$name',
    ),
    "generator": _Kind(
        "generator",
        "a generator for guidelens",
        'compare "a red circle" --generator $name --seeds 2 --out runs/$name',
    ),
    "metric": _Kind(
        "metric",
        "a metric of finished images for guidelens",
        'compare "a red circle" --metric $name --seeds 2 --out runs/$name',
    ),
    "prompts": _Kind(
        "prompts",
        "a prompt set for guidelens",
        "compare --prompts $name:category=colours --seeds 2 --out runs/$name",
    ),
    "commands": _Kind("commands", "a command for guidelens", "$name shift"),
}
"""The packages that :func:`write_package` can write, by kind of component, or ``commands``."""


def write_package(
    name: str, kind: str, directory: str | Path | None = None, *, taken: Collection[str] = ()
) -> list[Path]:
    """Write an installable package with a plugin, and return its files.

    :param name: of the distribution, the plugin and its component, such as ``my-objective``; its module is
        ``my_objective``.
    :param kind: one of :data:`KINDS`.
    :param directory: where to write it; must not exist. None: ``name`` in the working directory.
    :param taken: names that plugins have already.
    :raises UsageError: an invalid name, or a directory that exists.
    :raises GuidelensError: the directory cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of plugin {kind!r}; choose {', '.join(KINDS)}")
    _check_name(name, taken)
    target = Path(name if directory is None else directory).expanduser()
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already, and is left alone; choose another directory with --out")
    files = _files(name, kind)
    try:
        _write(target, files)
    except OSError as error:
        raise GuidelensError(f"cannot write {target}: {error.strerror or error}") from error
    return [target / inside for inside in files]


def _check_name(name: str, taken: Collection[str]) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} will not do as a name: use lower-case letters, digits and single hyphens, a letter first, "
            "such as my-objective"
        )
    module = name.replace("-", "_")
    if name in taken:
        raise UsageError(f"there is a plugin {name!r} already; choose another name")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UsageError(f"{name!r} will not do as a name: {module!r} is a word or a module of Python's own")
    if _importable(module):
        raise UsageError(f"{name!r} will not do as a name: a module {module!r} is installed already")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return True


def _files(name: str, kind: str) -> dict[str, str]:
    """Return the text of every file by its path in the package."""
    module, chosen = name.replace("-", "_"), KINDS[kind]
    words = {
        "name": name,
        "module": module,
        "title": name.replace("-", " ").capitalize(),
        "description": chosen.description,
        "use": string.Template(chosen.use).substitute(name=name),
        "code": chosen.module,
        "core_version": __version__,
        "contract_version": str(CONTRACT_VERSION),
    }
    folder = f"src/{module}"
    places = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{folder}/__init__.py": "init.py",
        f"{folder}/plugin.py": f"{kind}_plugin.py",
        f"{folder}/{chosen.module}.py": f"{kind}_code.py",
        f"tests/test_{module}.py": f"{kind}_test.py",
    }
    templates = resources.files(__package__) / "templates"
    return {
        place: string.Template((templates / f"{source}.tmpl").read_text(encoding="utf-8")).substitute(words)
        for place, source in places.items()
    }


def _write(target: Path, files: dict[str, str]) -> None:
    """Write files into a folder beside ``target``, then rename it, so that either all files exist or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for inside, text in files.items():
            path = folder / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        folder.chmod(0o777 & ~_umask())  # a temporary folder is readable only by its owner
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
