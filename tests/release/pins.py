"""Write constraints.txt: what pip resolves for the development environment under several Pythons.

    python tests/release/pins.py python3.10 python3.11 python3.13 > constraints.txt

It asks the package index. Each interpreter needs the ``venv`` module. A package that resolves to one release everywhere
gets one line. Otherwise each release gets a line with the Python versions that take it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = """\
# Releases that install and work together on Linux: what `pip install -e '.[dev,wandb]'` brings in on each Python.
# `make` and CI install with them. constraints-lavis.txt has those for the extra `lavis`.
# Written by tests/release/pins.py; see CONTRIBUTING.md.
"""


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """Return the version ("3.13") of an interpreter, and the release of each package that pip chooses for it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inner = Path(folder) / "bin" / "python"
        pip = [inner, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--upgrade", "pip"], check=True)
        report = Path(folder) / "report.json"
        wanted = [*pip, "install", "--dry-run", "--prefer-binary", "--report", report, f"{ROOT}[dev,wandb]"]
        subprocess.run(wanted, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))
    version = ".".join(found["environment"]["python_full_version"].split(".")[:2])
    packages = (item["metadata"] for item in found["install"])
    return version, {p["name"]: p["version"].partition("+")[0] for p in packages if p["name"] != "guidelens"}


def lines(resolved: dict[str, dict[str, str]]) -> list[str]:
    """Merge ``{python version: {package: release}}`` into constraint lines, sorted by package."""
    pythons = sorted(resolved, key=lambda version: [int(part) for part in version.split(".")])
    takers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for python in pythons:
        for name, release in resolved[python].items():
            takers[name.lower().replace("_", "-")][release].append(python)
    merged = []
    for name, releases in sorted(takers.items()):
        for release, by in releases.items():
            marker = "" if len(releases) == 1 else f" ; {_marker(by, pythons)}"
            merged.append(f"{name}=={release}{marker}")
    return merged


def _marker(takers: list[str], pythons: list[str]) -> str:
    """Return the marker of the consecutive versions ``takers``; open towards versions that were not asked for."""
    first, last = takers[0], takers[-1]
    bounds = []
    if first != pythons[0]:
        bounds.append(f'python_version >= "{first}"')
    if last != pythons[-1]:
        bounds.append(f'python_version < "{pythons[pythons.index(last) + 1]}"')
    return " and ".join(bounds)


if __name__ == "__main__":
    print(HEADER + "\n".join(lines(dict(map(resolve, sys.argv[1:])))))
