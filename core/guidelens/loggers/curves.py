"""What loggers write: one series for each schedule, with sampling steps on the x-axis.

The tags of a series:

- ``loss/NAME``, ``gradient_norm/NAME`` and ``cosine/A|B``: means over all pictures at each sampling step;
- ``score/COLUMN``: the score of each picture by its number; ``mean_score/COLUMN``: the mean of the first N pictures;
- ``picture 01 PROMPT, seed S``: the picture, and in this group its own curves (``.../loss NAME``).

A picture has the same number, prompt, seed and noise in every series, so its chart compares the schedules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from guidelens.errors import MissingPackageError
from guidelens.plugins.requirements import is_installed, pip_command
from guidelens.runs.logs import LoggedPicture, LoggedRun
from guidelens.schedules import object_name
from guidelens.shown import enlarged
from guidelens.words import shortened

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.samples import Result

SHOWN = 16
"""The default number of pictures that are logged with their own curves. All pictures count in the means."""

TITLE_LENGTH = 60
"""The largest number of characters of a prompt in a tag."""

STEP, PICTURE = "step", "picture"
"""The two x-axes: the sampling step, and the number of the picture."""


class CurveWriter(Protocol):
    """Writes one series."""

    def scalars(self, values: Mapping[str, float], axis: str, at: int) -> None:
        """Write values by tag at position ``at`` of an axis, :data:`STEP` or :data:`PICTURE`."""
        ...

    def image(self, tag: str, step: int, picture: Image) -> None:
        """Write a picture."""
        ...

    def close(self) -> None:
        """Write what is buffered, and end the series."""
        ...


@dataclass
class _Mean:
    """The mean of curves, without the steps at which they are nan."""

    sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, values: Sequence[float]) -> None:
        missing = len(values) - len(self.sums)
        self.sums += [0.0] * missing
        self.counts += [0] * missing
        for step, value in enumerate(values):
            if math.isfinite(value):
                self.sums[step] += value
                self.counts[step] += 1

    def values(self) -> list[float]:
        return [s / n if n else math.nan for s, n in zip(self.sums, self.counts, strict=True)]


class _Series:
    """The pictures of one schedule, under one variant of the settings."""

    def __init__(self, writer: CurveWriter) -> None:
        self.writer = writer
        self._means: dict[str, _Mean] = {}
        self._scores: dict[str, dict[int, float]] = {}

    def add(self, number: int, picture: LoggedPicture, *, shown: bool) -> None:
        curves = {
            (kind, name): values
            for kind, table in (
                ("loss", picture.losses),
                ("gradient_norm", picture.gradient_norms),
                ("cosine", picture.cosines),
            )
            for name, values in table.items()
        }
        for (kind, name), values in curves.items():
            self._means.setdefault(f"{kind}/{name}", _Mean()).add(values)
        if shown:
            title = f"picture {number:02d} {_shortened(picture.prompt)}, seed {picture.seed}"
            self._write({f"{title}/{kind} {name}": values for (kind, name), values in curves.items()})
            for step, image in picture.frames():
                self.writer.image(title, step, enlarged(image))
        for column, value in picture.metrics.items():
            known = self._scores.setdefault(column, {})
            known[number] = value
            mean = math.fsum(known.values()) / len(known)
            self.writer.scalars({f"mean_score/{column}": mean}, PICTURE, len(known))

    def finish(self) -> None:
        self._write({tag: mean.values() for tag, mean in self._means.items()})
        for column, scores in self._scores.items():
            for number, value in sorted(scores.items()):
                self.writer.scalars({f"score/{column}": value}, PICTURE, number)
        self.writer.close()

    def _write(self, curves: Mapping[str, Sequence[float]]) -> None:
        for step in range(max(map(len, curves.values()), default=0)):
            values = {tag: series[step] for tag, series in curves.items() if step < len(series)}
            finite = {tag: value for tag, value in values.items() if math.isfinite(value)}
            if finite:
                self.writer.scalars(finite, STEP, step)


class CurveLogger(ABC):
    """A logger that writes a series for each schedule: :class:`~guidelens.runs.logs.RunLogger`.

    A run calls its loggers itself. For an engine, open the logger as a context and call it with each result::

        with TensorBoard("runs/tb") as log:
            for result in engine.run(samples):
                log(result)

    :param shown: the number of pictures (pairs of prompt and seed) that are logged with their own curves.
    """

    view: str = ""
    """How to look at the log: a command or an address. Empty as long as there is none."""

    def __init__(self, shown: int = SHOWN) -> None:
        self.shown = shown
        self._label = ""
        self._numbers: dict[tuple[str, int], int] = {}
        self._series: dict[str, _Series] = {}

    @abstractmethod
    def _open(self, name: str) -> CurveWriter:
        """Begin the series of a schedule."""

    def start(self, run: LoggedRun) -> None:
        """Begin a run: number its pictures."""
        self._label = run.label
        self._numbers = {pair: number for number, pair in enumerate(run.pictures, 1)}

    def picture(self, picture: LoggedPicture) -> None:
        """Log a picture."""
        number = self._numbers.setdefault((picture.prompt, picture.seed), len(self._numbers) + 1)
        name = ", ".join(filter(None, (picture.schedule, picture.variant, self._label)))
        if name not in self._series:
            self._series[name] = _Series(self._open(name))
        self._series[name].add(number, picture, shown=number <= self.shown)

    def finish(self) -> None:
        """Write the means, and end all series."""
        series, self._series, self._numbers = self._series, {}, {}
        for each in series.values():
            each.finish()

    def __call__(self, result: Result, metrics: Mapping[str, float] | None = None) -> None:
        """Log a result of an engine.

        :param metrics: its scores, if it has any.
        """
        sample = result.sample
        schedule = "unguided" if sample.schedule is None else object_name(sample.schedule)
        steps = max(map(len, result.losses.values()), default=0)
        self.picture(
            LoggedPicture(
                prompt=sample.prompt,
                schedule=sample.label or schedule,
                seed=sample.seed,
                losses=result.losses,
                gradient_norms=result.gradient_norms,
                cosines=result.cosines,
                frames=lambda: [(steps, result.picture)],
                metrics=metrics or {},
            )
        )

    def __enter__(self) -> CurveLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()


def require_package(name: str) -> None:
    """Check that the package of a log is installed. The extra of guidelens has the same name.

    :raises MissingPackageError: it is not.
    """
    if not is_installed(name):
        raise MissingPackageError(
            f"the log {name} needs the package {name}: {pip_command([f'guidelens[{name}]'])}"
        )


def settings_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``config.json`` that a reader wants: not the plan of batches, not tables of weights."""
    hidden = ("batches", "schedules", "guidelens_format")
    return {name: value for name, value in config.items() if name not in hidden}


def _shortened(prompt: str) -> str:
    return shortened(" ".join(prompt.replace("/", " ").split()), TITLE_LENGTH)
