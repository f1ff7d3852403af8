"""Find all missing packages before a check starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from guidelens.plugins import Component

_MARKER = re.compile(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)['\"]")


def missing_requirements(components: Iterable[Component], *, tests: bool) -> tuple[str, ...]:
    """Return the packages that pip must install: dependencies of guidelens and the components, and pytest for
    tests."""
    wanted = [*_needed_here(metadata.requires("guidelens") or ()), *(["pytest"] if tests else [])]
    missing = [name for name in wanted if not _is_installed(name)]
    for component in components:
        missing += component.info.requirements(component.info.missing)[0]
    return tuple(dict.fromkeys(missing))


def pip_install(missing: Sequence[str], wheels: Path | None) -> str:
    """Return the command that installs ``missing``, from a folder of wheels if one is given."""
    source = "" if wheels is None else f"--no-index --find-links {wheels} "
    return f"{sys.executable} -m pip install {source}{' '.join(missing)}"


def _needed_here(stated: Iterable[str]) -> list[str]:
    """Return the names of the required distributions for this Python, without extras."""
    names = []
    for line in stated:
        requirement, _, marker = line.partition(";")
        found = re.match(r"[\w.-]+", requirement.strip())
        if found and "extra" not in marker and _holds(marker):
            names.append(found[0])
    return names


def _holds(marker: str) -> bool:
    found = _MARKER.search(marker)
    if found is None:
        return True
    version = (int(found[2]), int(found[3]))
    here = sys.version_info[:2]
    return here < version if found[1] == "<" else here >= version


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
