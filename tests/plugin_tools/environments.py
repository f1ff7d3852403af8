"""An environment of its own for tests that install packages: made in a moment, offline, and thrown away."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

OFFLINE = ("--", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
"""What `guidelens install` is to pass on to pip, so that nothing is fetched."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees all that the tests' own environment has."""

    python: Path

    def run(
        self, *arguments: str, cwd: Path | None = None, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the environment's interpreter."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("GUIDELENS_", "PIP_"))}
        done = subprocess.run(
            [str(self.python), *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment | {"OMP_NUM_THREADS": "1"} | env,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def guidelens(
        self, *arguments: str, cwd: Path | None = None, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in the environment."""
        return self.run("-m", "guidelens", *arguments, cwd=cwd, check=check, **env)


def make_environment(folder: Path) -> Environment:
    """Make an environment in ``folder``."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    parents = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    lines = [f"import site; site.addsitedir({parent!r})\n" for parent in parents]
    Path(paths["purelib"], "parent.pth").write_text("".join(lines), encoding="utf-8")
    return Environment(Path(paths["scripts"]) / ("python.exe" if os.name == "nt" else "python"))
