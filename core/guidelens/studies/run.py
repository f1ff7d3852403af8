"""Run a study: find it, expand it, compute its missing cells, and record everything in its directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import UsageError
from guidelens.plugins.spelling import suggestion
from guidelens.runs.config import FORMAT
from guidelens.runs.drive import Callbacks, Driver, Progress
from guidelens.runs.execute import ComponentCache, Executor, InProcess
from guidelens.runs.logs import RunLogger
from guidelens.runs.notes import Note
from guidelens.runs.plan import Plan, make_plan
from guidelens.runs.provenance import upgrade_notes, versions
from guidelens.runs.store import STUDY, RunStore, earlier_config

from .expand import Expansion, expand
from .file import CELLS, Study, load_study_file
from .prompts import Perturb

if TYPE_CHECKING:
    import pandas as pd

    from guidelens.plugins import PluginManager

    from .results import StudyResults

SUFFIX = ".toml"


@dataclass(frozen=True)
class StudyRun:
    """The result of :func:`run_study`.

    :param total: number of requested cells; a cell in several grids counts once.
    :param computed: number of cells written by this call.
    :param reused: number of cells found on disk.
    :param failed: number of cells without a picture, because of an error.
    :param unscored: number of cells with a picture on which some metric failed.
    :param stopped: whether ``should_stop`` ended the run.
    """

    directory: Path
    study: Study
    total: int
    computed: int
    reused: int
    failed: int
    unscored: int
    stopped: bool
    reasons: list[tuple[str, int]] = field(default_factory=list)
    """Each reason for failures, and its number of cells."""
    notes: tuple[Note, ...] = ()
    """What the reader should know about prompts and settings."""

    @property
    def complete(self) -> bool:
        """Whether every cell has its picture and all its scores."""
        return not (self.failed or self.unscored or self.stopped)

    @cached_property
    def results(self) -> StudyResults:
        """The results in the directory, as :func:`guidelens.load_study` returns them."""
        from .results import load_study

        return load_study(self.directory)

    def save(self, path: str | Path) -> Path:
        """See :meth:`StudyResults.save <guidelens.studies.results.StudyResults.save>`."""
        return self.results.save(path)

    def to_pandas(self) -> pd.DataFrame:
        """See :meth:`StudyResults.to_pandas <guidelens.studies.results.StudyResults.to_pandas>`."""
        return self.results.to_pandas()

    def _repr_png_(self) -> bytes | None:
        return self.results._repr_png_()

    def _repr_html_(self) -> str:
        return self.results._repr_html_()


def find_study(name: str | Path, plugins: PluginManager, include: Sequence[Path] = ()) -> Study:
    """Return the study of a file (a path, or a text that ends in ``.toml``), or a plugin's study by name.

    :param include: files to include besides those that the study names.
    :raises UsageError: for a name that no plugin or several plugins use, or a mistake in the file.
    :raises GuidelensError: for a file that cannot be read.
    """
    text = str(name)
    if isinstance(name, Path) or text.endswith(SUFFIX):
        return load_study_file(text, include)
    offered = plugins.studies()
    owner, _, bare = text.rpartition("/")
    found = [s for s in offered if s.name == bare and owner in ("", s.plugin)]
    if len(found) == 1:
        return load_study_file(found[0].path, include)
    if found:
        choices = " or ".join(f"{s.plugin}/{s.name}" for s in found)
        raise UsageError(f"several plugins offer the study {bare!r}; say {choices}")
    names = [s.name for s in offered]
    listed = f"there are {', '.join(names)}" if names else "no plugin offers one"
    raise UsageError(f"unknown study {text!r}{suggestion(bare, names)}; {listed}; a file ends in {SUFFIX}")


def study_plugins(study: Study, plugins: PluginManager) -> PluginManager:
    """Return the plugins together with those that the study asks for.

    :raises UsageError: for one that does not exist, with the line.
    """
    if not study.plugins:
        return plugins
    from guidelens.plugins import PluginManager

    try:
        return PluginManager.load([*plugins.requests(), *study.plugin_requests])
    except UsageError as error:
        raise study.error(("plugins",), str(error)) from error


def plugin_component_cache(plugins: PluginManager, device: str) -> ComponentCache:
    """Return a cache that builds components as plugins offer them."""
    return ComponentCache(plugins.build, device=device, versions=plugins.version_of)


def study_component_cache(study: Study, plugins: PluginManager, device: str | None) -> ComponentCache:
    """Return the cache of a study.

    :param device: overrides the study's.
    :raises UsageError: the machine has no such device. The study's own device is checked later, with its line number.
    """
    if device is not None:
        from guidelens.networks import resolve_device

        resolve_device(device)
    return plugin_component_cache(plugins, device or study.device)


def run_study(
    study: Study | str | Path,
    *,
    out: str | Path,
    plugins: PluginManager | None = None,
    device: str | None = None,
    batch_size: int | str | None = None,
    retry_failed: bool = False,
    executor: Callable[[ComponentCache], Executor] = InProcess,
    perturb: Perturb | None = None,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[Note], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    loggers: Sequence[RunLogger] = (),
) -> StudyRun:
    """Compute the cells of a study that ``out`` lacks.

    To continue an interrupted run, repeat the call: the pictures equal those of an uninterrupted run. A failed cell
    is recorded with its reason in ``failures.jsonl``, and the other cells are computed. Failed cells are tried again
    only with ``retry_failed``. The study may change between calls: unchanged cells are not computed again.

    :param study: a study, its file, or the name by which a plugin offers it.
    :param device: overrides the study's, as does ``batch_size``.
    :param retry_failed: try again failed cells, and failed metrics on stored pictures.
    :param executor: called with a cache; returns what computes the cells.
    :param perturb: replaces the library's perturbations.
    :param command: the command line, recorded in ``config.json``.
    :param on_progress: see :class:`~guidelens.runs.drive.Callbacks`.
    :param on_note: likewise.
    :param should_stop: likewise.
    :param loggers: see :mod:`guidelens.loggers`.
    :raises UsageError: for a study that makes no sense, or a directory that holds something else.
    :raises GuidelensError: for components that cannot be built, or a directory that cannot be written.
    """
    from guidelens.plugins import PluginManager

    given = plugins or PluginManager.load()
    study = study if isinstance(study, Study) else find_study(study, given)
    old = earlier_config(Path(out), STUDY)
    refuse_other(Path(out), old, study)
    loaded = study_plugins(study, given)
    cache = study_component_cache(study, loaded, device)
    expansion = expand(study, loaded, cache, perturb=perturb)
    size = chosen_batch_size(batch_size or study.batch_size, old, cache, expansion)
    callbacks = Callbacks(on_progress, on_note, should_stop, loggers)
    with RunStore(Path(out), STUDY) as store:
        callbacks.report(expansion.notes)
        if retry_failed:
            store.replace_failures([])
        plan = _plan(store, expansion, size)
        config = _config(study, expansion, plan, store.config, size, cache, loaded, given.requests(), command)
        if plan.todo:
            callbacks.report(upgrade_notes(store.rows.values(), versions(loaded.versions())))
        store.write_config(config)
        store.write(CELLS, "".join(_line(member) for member in expansion.members))
        driver = Driver(store, expansion.groups, expansion.metrics, callbacks)
        work = executor(cache)
        driver.run(plan, work, batch_size=size, retry_metrics=retry_failed, snapshots=study.snapshots)
        return _result(store, study, expansion, driver)


def refuse_other(directory: Path, old: Mapping[str, Any] | None, study: Study) -> None:
    """Raise UsageError if a directory with the configuration ``old`` holds another study."""
    if old is None:
        return
    name, models = old["study"]["name"], old["study"].get("overrides", {})
    if name != study.name:
        raise UsageError(f"{directory} holds the study {name!r}, not {study.name!r}; choose another --out")
    if models != study.overrides:
        asked = " and ".join(f"{kind} {spec}" for kind, spec in models.items()) or "the models in its file"
        raise UsageError(f"{directory} holds the study {name!r} with {asked}; choose another --out")


def chosen_batch_size(
    wanted: int | str, old: Mapping[str, Any] | None, cache: ComponentCache, expansion: Expansion
) -> int:
    """Return the number of pictures computed at once. In an existing directory, ``auto`` keeps the recorded size."""
    if not isinstance(wanted, str):
        return wanted
    if old is not None:
        return int(old["batch_size"])
    from guidelens.engine import Sample

    sizes: dict[tuple[str, str], int] = {}
    for group in expansion.groups:
        models = (group.settings.generator.name, group.settings.guidance.name)
        if models not in sizes:
            cell = next(iter(group.cells.values()))
            sample = Sample(cell.prompt.text, cell.schedule.schedule, cell.seed)
            sizes[models] = cache.engine(group.settings).predict_batch_size(sample)
    return min(sizes.values())


def _plan(store: RunStore, expansion: Expansion, batch_size: int) -> Plan:
    cells = {key: cell for group in expansion.groups for key, cell in group.cells.items()}
    recorded = (store.config or {}).get("batches", [])
    done = {*store.rows, *store.failures}
    groups = [list(group.cells) for group in expansion.groups]
    return make_plan(cells, recorded, done, batch_size, groups=groups)


def _config(
    study: Study,
    expansion: Expansion,
    plan: Plan,
    old: Mapping[str, Any] | None,
    batch_size: int,
    cache: ComponentCache,
    plugins: PluginManager,
    requests: Sequence[str],
    command: str,
) -> dict[str, Any]:
    from guidelens.networks import resolve_device

    commands = list((old or {}).get("commands", []))
    return {
        "guidelens_format": FORMAT,
        "kind": STUDY,
        "study": {
            "name": study.name,
            "summary": study.summary,
            "label": study.label,
            "base": str(study.base),
            "text": study.text,
            **({"included": dict(study.included)} if study.included else {}),
            "overrides": dict(study.overrides),
        },
        **outline(study, expansion),
        "settings": {i: settings.as_dict() for i, settings in expansion.settings.items()},
        "notes": [{"prompt": note.prompt, "note": note.text} for note in expansion.notes if not note.prompt],
        "snapshots": list(study.snapshots),
        "device": str(resolve_device(cache.device)),
        "batch_size": batch_size,
        "plugins": list(requests),
        "commands": [*commands, *([command] if command and command not in commands else [])],
        "versions": (old or {}).get("versions") or versions(plugins.versions()),
        "batches": [list(batch) for batch in plan.batches],
    }


def outline(study: Study, expansion: Expansion) -> dict[str, Any]:
    """Return the part of ``config.json`` that claims need: grids, schedules, metrics."""
    sizes = expansion.sizes()
    return {
        "grids": [
            {"name": g.name, "summary": g.summary, "claims": list(g.claims), "cells": sizes[g.name]}
            for g in study.grids
        ],
        "schedules": [
            {"name": name, "steps": steps, "weights": weights}
            for (name, steps), weights in expansion.schedules.items()
        ],
        "metrics": [metric.as_dict() for metric in expansion.metrics],
    }


def _line(member: Mapping[str, Any]) -> str:
    return json.dumps(member, ensure_ascii=False, allow_nan=False) + "\n"


def _result(store: RunStore, study: Study, expansion: Expansion, driver: Driver) -> StudyRun:
    failures = [f for key, f in store.failures.items() if key in driver.cells]
    names = [metric.name for metric in expansion.metrics]
    errors = [
        {name: why for name, why in store.rows[key]["metric_errors"].items() if name in names}
        for key in driver.cells
        if key in store.rows
    ]
    told = [f"metric {name}: {why}" for error in errors for name, why in error.items()]
    reasons: dict[str, int] = {}
    for reason in [*(f["reason"] for f in failures), *told]:
        reasons[reason] = reasons.get(reason, 0) + 1
    return StudyRun(
        directory=store.directory,
        study=study,
        total=len(driver.cells),
        computed=driver.computed,
        reused=driver.reused,
        failed=len(failures),
        unscored=sum(map(bool, errors)),
        stopped=driver.stopped,
        reasons=list(reasons.items()),
        notes=tuple(expansion.notes),
    )
