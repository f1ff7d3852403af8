"""Pass the pictures of a run to loggers. A run never depends on its loggers: one that fails is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from guidelens.guarding import one_line
from guidelens.pictures import from_levels
from guidelens.runs.config import flat_settings
from guidelens.runs.telemetry import Telemetry, load_batch

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.runs.execute import CellGroup
    from guidelens.runs.store import RunStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggedRun:
    """A run, as loggers receive it at its start.

    :param directory: where its files are.
    :param config: the content of its ``config.json``.
    :param pictures: the prompts and seeds of the requested pictures, each pair once, in order.
    :param label: the part of a sweep, such as ``scale 0.3``; empty outside sweeps.
    """

    directory: Path
    config: Mapping[str, Any]
    pictures: Sequence[tuple[str, int]]
    label: str = ""


@dataclass(frozen=True, eq=False)
class LoggedPicture:
    """A finished picture, as loggers receive it.

    :param variant: the settings that differ between pictures of the run, such as ``steps 25``; empty if none do.
    :param losses: L_k at each step by objective, nan where the objective was inactive.
    :param gradient_norms: the norm of dL_k/dx0 likewise.
    :param cosines: the cosines between these gradients by pair of objectives, ``"a|b"``.
    :param metrics: the scores by column.
    :param frames: returns (step, picture) pairs: the kept predictions of x0, then the finished picture.
    """

    prompt: str
    schedule: str
    seed: int
    losses: Mapping[str, Sequence[float]]
    gradient_norms: Mapping[str, Sequence[float]]
    cosines: Mapping[str, Sequence[float]]
    frames: Callable[[], list[tuple[int, Image]]]
    metrics: Mapping[str, float] = field(default_factory=dict)
    variant: str = ""


class RunLogger(Protocol):
    """What receives the pictures of a run. All methods are called in the thread that started the run.

    A run calls :meth:`start` once, :meth:`picture` for every requested picture, and :meth:`finish`, also after an
    error. Pictures that were on disk before come after the new ones. The pictures of a batch come once they are on
    disk. If a method raises an exception, the run prints one line and goes on without this logger.
    """

    def start(self, run: LoggedRun) -> None:
        """Begin a run. A logger may be used for several runs, one after the other."""
        ...

    def picture(self, picture: LoggedPicture) -> None:
        """Log a finished picture."""
        ...

    def finish(self) -> None:
        """End the run: write what is left, and close files."""
        ...


class Labelled:
    """A logger for one part of a sweep.

    :param label: the part, such as ``scale 0.3``.
    """

    def __init__(self, inner: RunLogger, label: str) -> None:
        self._inner, self._label = inner, label
        self.picture, self.finish = inner.picture, inner.finish

    def start(self, run: LoggedRun) -> None:
        """Begin this part of the sweep."""
        self._inner.start(replace(run, label=self._label))

    def __str__(self) -> str:
        return str(self._inner)


class RunLog:
    """Passes one run to its loggers while the context is open.

    When the context ends without an error, the loggers also get the pictures that were on disk before.

    :param groups: all requested cells.
    """

    def __init__(self, store: RunStore, groups: Sequence[CellGroup], loggers: Iterable[RunLogger]) -> None:
        self._store = store
        self._loggers = list(loggers)
        self._done: set[str] = set()
        self._cells = {key: cell for group in groups for key, cell in group.cells.items()}
        labels = variants([group.settings.as_dict() for group in groups])
        self._variants = {
            key: label for group, label in zip(groups, labels, strict=True) for key in group.cells
        }

    def __enter__(self) -> RunLog:
        if self._loggers:
            pairs = dict.fromkeys((cell.prompt.text, cell.seed) for cell in self._cells.values())
            run = LoggedRun(self._store.directory, dict(self._store.config or {}), tuple(pairs))
            self._call_each("start", run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.add(self._cells)
        self._call_each("finish")

    def add(self, keys: Iterable[str]) -> None:
        """Log the cells that are on disk and not logged yet."""
        if not self._loggers:
            return
        new = [key for key in keys if key not in self._done and key in self._store.rows]
        self._done.update(new)
        try:
            for picture in self._pictures(new):
                self._call_each("picture", picture)
        except Exception as error:  # the files of the run cannot be read
            for one in list(self._loggers):
                self._drop(one, error)

    def _pictures(self, keys: Sequence[str]) -> Iterator[LoggedPicture]:
        rows = self._store.rows
        by_file: dict[str, list[str]] = {}
        for key in keys:
            by_file.setdefault(rows[key]["telemetry"], []).append(key)
        for file, batch in by_file.items():
            recorded = load_batch(self._store.path(file))
            for key in batch:
                yield self._picture(key, rows[key], recorded[key])

    def _picture(self, key: str, row: Mapping[str, Any], telemetry: Telemetry) -> LoggedPicture:
        return LoggedPicture(
            prompt=row["prompt"],
            schedule=row["schedule"],
            seed=row["seed"],
            losses=_lists(telemetry.losses),
            gradient_norms=_lists(telemetry.gradient_norms),
            cosines=_lists(telemetry.cosines),
            frames=lambda: [*_snapshots(telemetry), (row["steps"], self._store.load_image(key))],
            metrics=row["metrics"],
            variant=self._variants[key],
        )

    def _call_each(self, method: str, *arguments: object) -> None:
        for one in list(self._loggers):
            try:
                getattr(one, method)(*arguments)
            except Exception as error:  # a logger's own code, its files or its network
                self._drop(one, error)

    def _drop(self, one: RunLogger, error: Exception) -> None:
        self._loggers.remove(one)
        logger.warning("the log %s failed: %s; the run goes on without it", one, one_line(error))
        with suppress(Exception):
            one.finish()


def variants(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the differences that name each of several settings, such as ``steps 25, scale 3``.

    Settings are named in their order until all are distinct. The text of a single one is empty.
    """
    flat = [dict(flat_settings(each)) for each in settings]
    names = [name for name in dict.fromkeys(n for each in flat for n in each) if "fingerprint" not in name]
    chosen: list[str] = []
    labels = [""] * len(flat)
    for name in names:
        longer = [
            ", ".join(f"{n.removesuffix('.name')} {each.get(n)}" for n in (*chosen, name)) for each in flat
        ]
        if len(set(longer)) > len(set(labels)):
            chosen.append(name)
            labels = longer
    return labels


def _lists(series: Mapping[str, Any]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in series.items()}


def _snapshots(telemetry: Telemetry) -> list[tuple[int, Image]]:
    if telemetry.snapshots is None or telemetry.snapshot_steps is None:
        return []
    steps = telemetry.snapshot_steps.tolist()
    return [(step, from_levels(levels)) for step, levels in zip(steps, telemetry.snapshots, strict=True)]
