"""Helpers for plugin tests: real distributions and plugin files, written where a test wants them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SCHEDULE = """
    from guidelens import hookimpl

    class Flat:
        def weights(self, progress):
            return {{"itc": 1.0}}

    @hookimpl
    def register_schedules(register):
        register({name!r}, Flat, summary="always the same")
"""
"""A plugin that offers one schedule; format it with ``name``."""


def write_module(folder: Path, name: str, source: str) -> Path:
    """Write ``name.py`` and return its path."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def write_distribution(
    folder: Path, dist: str, points: dict[str, str], *, requires: tuple[str, ...] = ()
) -> None:
    """Write the metadata of an installed distribution whose entry points are ``points``."""
    info = folder / f"{dist.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {dist}",
        "Version: 1.5",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    written = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[guidelens]\n{written}", encoding="utf-8")


def run_cli(
    *args: str, path: Path | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``guidelens`` as a user does, in a process of its own, with ``path`` on the search path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GUIDELENS_")}
    environment |= {"PYTHONPATH": str(path)} if path is not None else {}
    # What the console script does; `python -m` would put the working directory on the search path.
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from guidelens.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | env,
        timeout=120,
        check=False,
    )


def run_python(code: str, cwd: Path | None = None) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
