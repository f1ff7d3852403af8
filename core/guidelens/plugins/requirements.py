"""Find missing modules and the pip command that installs them, from metadata and without imports."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import metadata

_DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "lavis": "salesforce-lavis",
    "open_clip": "open-clip-torch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose distribution has another name."""


_LABELS = ("documentation", "docs", "homepage", "repository", "source", "sourcecode", "code")
"""Names of project URLs, without spaces. For documentation, the first is best."""


def normalized(distribution: str) -> str:
    """Return the normalised name of a distribution, for comparisons (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def is_installed(module: str) -> bool:
    """Return whether the package of ``module`` seems to be installed. It is not imported."""
    top = module.partition(".")[0]
    try:
        return importlib.util.find_spec(top) is not None
    except ValueError:  # present, but without a spec
        return sys.modules.get(top) is not None


def requirements_of(modules: Sequence[str], dist: str = "") -> tuple[tuple[str, ...], str]:
    """Return the packages that pip installs for ``modules``, and the Python versions for which the metadata lists
    them.

    If the metadata of ``dist`` requires the package, the result is the extra of ``dist`` with this package, or the
    package in the required versions. Otherwise the module's name is taken as the package's name.
    """
    wanted: list[str] = []
    condition = ""
    for module in modules:
        top = module.partition(".")[0]
        requirement, marker = _stated(_DISTRIBUTIONS.get(top, top.replace("_", "-")), dist)
        wanted.append(requirement)
        condition = marker if "python_version" in marker else condition
    return tuple(dict.fromkeys(wanted)), condition


def pip_command(requirements: Iterable[str], condition: str = "") -> str:
    """Return the command that installs ``requirements``, quoted for any shell."""
    wanted = " ".join(f'"{r}"' if re.search(r"[^A-Za-z0-9._-]", r) else r for r in requirements)
    return f"pip install {wanted}{f' (for {condition})' if condition else ''}"


def _stated(package: str, dist: str) -> tuple[str, str]:
    """Return the requirement of ``dist`` for ``package`` and its condition, or the bare name."""
    try:
        stated = metadata.requires(dist) if dist else None
    except metadata.PackageNotFoundError:
        stated = None
    found = []
    for line in stated or ():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and normalized(name[0]) == normalized(package):
            found.append((requirement.replace(" ", ""), marker.replace('"', "'")))
    # An unconditional requirement takes precedence over an extra.
    for requirement, marker in sorted(found, key=lambda pair: "extra" in pair[1]):
        extra = re.search(r"\bextra\s*==\s*'([^']+)'", marker)
        return (f"{dist}[{extra[1]}]" if extra else requirement), marker
    return package, ""


@lru_cache
def documentation(dist: str) -> str:
    """Return the documentation address of ``dist``, or else its home page; empty if it has neither."""
    try:
        stated = metadata.metadata(dist) if dist else None
    except metadata.PackageNotFoundError:
        stated = None
    if stated is None:
        return ""
    links = {}
    for line in stated.get_all("Project-URL") or ():
        label, _, address = line.partition(",")
        links[re.sub(r"[^a-z]", "", label.lower())] = address.strip()
    if "Home-page" in stated:  # how it was spelled before project URLs
        links.setdefault("homepage", stated["Home-page"])
    return next((links[label] for label in _LABELS if links.get(label)), "")
