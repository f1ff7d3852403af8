"""The progress of a study, read from its directory, while it runs or later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from guidelens.errors import GuidelensError, UsageError
from guidelens.runs.store import LOCK, STUDY, read_config

from .results import DONE, FAILED, CellRecord, load_study


@dataclass(frozen=True)
class Counts:
    """Numbers of cells.

    :param all: requested cells.
    :param done: cells with a picture.
    :param failed: cells that could not be computed.
    :param unscored: done cells on which some metric failed.
    """

    all: int
    done: int
    failed: int
    unscored: int


@dataclass(frozen=True)
class StudyStatus:
    """The progress of a study. ``total`` counts a cell in several grids once."""

    name: str
    directory: Path
    running: bool
    grids: dict[str, Counts]
    total: Counts
    reasons: dict[str, int]
    """Reason why cells failed or lack scores -> number of cells."""

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return {**asdict(self), "directory": str(self.directory)}


def status(directory: str | Path) -> StudyStatus:
    """Count the cells of a study.

    :raises UsageError: when ``directory`` holds none.
    :raises GuidelensError: when it is damaged.
    """
    directory = Path(directory)
    if not directory.is_dir() or read_config(directory, STUDY) is None:
        raise UsageError(f"{directory} holds no study; guidelens study run FILE --out DIR starts one")
    study = load_study(directory)
    by_grid: dict[str, dict[str, CellRecord]] = {grid["name"]: {} for grid in study.config["grids"]}
    for cell in study.cells:
        by_grid.setdefault(cell["grid"], {})[cell["key"]] = cell
    reasons: dict[str, int] = {}
    for cell in study.keys.values():
        told = [f"metric {name}: {why}" for name, why in cell["metric_errors"].items()]
        for reason in [*told, *([cell["reason"]] if cell["reason"] else [])]:
            reasons[reason] = reasons.get(reason, 0) + 1
    return StudyStatus(
        name=study.name,
        directory=directory,
        running=is_running(directory),
        grids={name: _count(cells.values()) for name, cells in by_grid.items()},
        total=_count(study.keys.values()),
        reasons=reasons,
    )


def statuses(folder: str | Path) -> list[StudyStatus]:
    """Return the progress of the studies in a folder's directories. Other and damaged directories are left out."""
    folder = Path(folder)
    found = []
    for directory in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        try:
            found.append(status(directory))
        except GuidelensError:
            continue
    return found


def is_running(directory: Path) -> bool:
    """Return whether a process currently computes in a directory."""
    path = directory / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # without permission to lock, this cannot be known
        return False


def _count(cells: Iterable[CellRecord]) -> Counts:
    listed = list(cells)
    return Counts(
        all=len(listed),
        done=sum(cell["status"] == DONE for cell in listed),
        failed=sum(cell["status"] == FAILED for cell in listed),
        unscored=sum(bool(cell["metric_errors"]) for cell in listed),
    )
