"""The files of the project, as a clone or an unpacked sdist has them, without what tools leave."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_RELEASED = {".ci", ".gitignore"}
"""What no archive holds: of use in a clone only."""
_MADE = {"PKG-INFO", "setup.cfg", "build", "dist", "demo", "runs"}
"""Left at the top by builds and runs."""


def tree() -> Iterator[Path]:
    """Yield every file, relative to the root: what git knows or would add; in an unpacked sdist, all."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = [Path(name) for name in listed.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if not _leftover(path.relative_to(ROOT))]
    for path in sorted(found):
        if (ROOT / path).is_file() and path.parts[0] not in NOT_RELEASED:
            yield path


def copy_tree(folder: Path) -> Path:
    """Copy the files into ``folder``, so that a build leaves nothing in the tree; return it."""
    for path in tree():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def _leftover(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts) and path.name != ".pre-commit-config.yaml"
    made = path.parts[0] in _MADE or any(part.endswith(".egg-info") for part in path.parts)
    return hidden or made or "__pycache__" in path.parts
