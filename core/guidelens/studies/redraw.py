"""Draw a cell of a run again, in a batch of the same composition, so that rounding is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Generator, GuidanceModel
from guidelens.errors import GuidelensError, UsageError
from guidelens.runs.config import Cell, RunSettings
from guidelens.runs.execute import ComponentCache, Task, check_fingerprints, compute
from guidelens.runs.integrity import recorded_hash
from guidelens.runs.provenance import provenance_differences
from guidelens.runs.record import prompt_of
from guidelens.runs.store import RESULTS, read_rows
from guidelens.runs.telemetry import batch_keys
from guidelens.schedules import NamedSchedule, ScheduleTable
from guidelens.words import plural

from .results import StudyResults, load_study

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

LEVELS = 255


@dataclass(frozen=True)
class Redrawn:
    """A cell that was drawn again.

    :param png: the picture, as a file.
    :param same: whether it is the run's picture bit for bit.
    :param batch: the number of cells in its batch.
    :param largest: the largest difference from the run's picture, in levels from 0 to 255.
    :param share: the share of values (pixels x channels) that differ.
    :param changes: differences in versions, threads and device since the run computed the cell.
    """

    key: str
    png: bytes
    same: bool
    batch: int
    largest: int
    share: float
    changes: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line that compares the picture with the run's."""
        if self.same:
            return f"{self.key}: the run's picture, bit for bit (in a batch of {self.batch})"
        size = (
            f"by up to {self.largest} of {LEVELS} levels, in {100 * self.share:.1f} % of its values"
            if self.largest
            else "in its file only, no pixel differs"
        )
        why = ", ".join(self.changes) or "versions, threads and device are as they were"
        return f"{self.key}: differs from the run's picture {size} ({why})"


def redraw(
    directory: str | Path,
    key: str,
    *,
    plugins: PluginManager | None = None,
    generator: Generator | None = None,
    guidance: GuidanceModel | None = None,
    device: str | None = None,
) -> Redrawn:
    """Draw a finished cell of a comparison or a study again, with all cells of its batch, and compare the pictures.

    Networks round differently in batches of another size or composition, and guidance amplifies rounding errors. So
    the whole batch is computed again, with the same number of threads. On the same machine and with the same
    versions, the picture is the same bit for bit. Nothing in ``directory`` changes.

    :param generator: the generator, if the run was given an object; None: the generator named in the run.
    :param guidance: likewise.
    :param device: None: the kind of device that computed the cell.
    :raises UsageError: for an unknown cell, or a run whose models were objects, if these are not given.
    :raises GuidelensError: for a cell that is not done, models with other weights, or a batch that the directory no
        longer describes.
    """
    import numpy as np

    study = load_study(directory)
    row, before = study.row(key), study.image(key)
    settings = RunSettings.of(study.settings(key))
    batch = _batch(study, row, settings)
    cache = _cache(study, plugins, generator, guidance, device or row["device"].partition(" ")[0])
    settings = _as_computed(settings, row, cache)
    with _threads(row["threads"]):
        png = compute(Task(settings, batch, frozenset([key]), tolerant=False), cache).pictures[key]
        changes = provenance_differences(row, cache.provenance(settings))
    change = np.abs(_levels(png) - np.asarray(before, dtype=np.int16))
    return Redrawn(
        key=key,
        png=png,
        same=png == (study.directory / row["image"]).read_bytes(),
        batch=len(batch),
        largest=int(change.max()),
        share=float((change > 0).mean()),
        changes=tuple(changes),
    )


def _as_computed(settings: RunSettings, row: Mapping[str, Any], cache: ComponentCache) -> RunSettings:
    """Return the settings with the models as they were spelled when the row was computed.

    Options such as ``compile`` change rounding, and a continued run may spell them differently. If a model cannot be
    built as spelled then (its file has moved), it is built as the run spells it now.

    :raises GuidelensError: a model has other weights.
    """
    then = replace(
        settings,
        generator=replace(settings.generator, name=row["generator"]),
        guidance=replace(settings.guidance, name=row["guidance"]),
    )
    try:
        check_fingerprints(then, cache)
    except GuidelensError:
        if then == settings:
            raise
        check_fingerprints(settings, cache)
        return settings
    return then


def _levels(png: bytes) -> Any:
    import io

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cache(
    study: StudyResults,
    plugins: PluginManager | None,
    generator: Generator | None,
    guidance: GuidanceModel | None,
    device: str,
) -> ComponentCache:
    from guidelens.plugins import PluginManager

    given = {"generator": generator, "guidance": guidance}
    if study.config["plugins"] is None and None in given.values():
        raise UsageError(
            f"the models of {study.directory} were Python objects, which a command cannot build; call "
            "guidelens.studies.redraw.redraw with generator= and guidance="
        )
    if None not in given.values():
        return ComponentCache(lambda kind, name: given[kind], device=device)
    manager = (PluginManager.load() if plugins is None else plugins).including(study.plugins())

    def build(kind: str, name: str) -> Any:
        return manager.build(kind, name) if given.get(kind) is None else given[kind]

    return ComponentCache(build, device=device, versions=manager.version_of)


def _batch(study: StudyResults, row: Mapping[str, Any], settings: RunSettings) -> dict[str, Cell]:
    """Return the cells of a row's batch in order.

    :raises GuidelensError: if the directory no longer has one of them.
    """
    keys = batch_keys(study.directory / row["telemetry"], recorded_hash(row, "telemetry"))
    described = {**study.keys, **read_rows(study.directory / RESULTS)[0]}
    tables = {(s["name"], s.get("steps", settings.steps)): s["weights"] for s in study.config["schedules"]}
    cells = {}
    for key in keys:
        found = described.get(key)
        weights = None if found is None else tables.get((found["schedule"], settings.steps))
        cell = None if found is None or weights is None else _cell(found, weights, settings.steps)
        if cell is None or cell.key(settings) != key:
            raise GuidelensError(
                f"cell {row['key']} was drawn in a batch of {plural(len(keys), 'cell')}, and {study.directory} no "
                f"longer describes {key}, which is one of them: it cannot be drawn bit for bit"
            )
        cells[key] = cell
    return cells


def _cell(row: Mapping[str, Any], weights: Mapping[str, list[float]], steps: int) -> Cell:
    """Return the cell of a row of results, failures or members, given its schedule's weights by objective."""
    import torch

    names = tuple(sorted(weights))
    values = torch.tensor([weights[name] for name in names], dtype=torch.float64).reshape(len(names), steps).T
    table = ScheduleTable(row["schedule"], names, values)
    return Cell(prompt_of(row), NamedSchedule(row["schedule"], table), row["seed"])
