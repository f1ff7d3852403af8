"""Plan a comparison of schedules and compute its missing cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prompt
from guidelens.prompts import Perturbed, perturb_prompts
from guidelens.runs.assemble import assemble
from guidelens.runs.config import as_prompts
from guidelens.runs.drive import Callbacks, Driver
from guidelens.runs.execute import CellGroup, ComponentCache, InProcess
from guidelens.runs.notes import Note, prompt_notes
from guidelens.runs.plan import all_cells, check_schedules, make_plan
from guidelens.runs.provenance import upgrade_notes, versions
from guidelens.runs.record import ComparisonRequest, merged_config
from guidelens.runs.resolve import Components
from guidelens.runs.store import RunStore
from guidelens.sampling import Sampling

if TYPE_CHECKING:
    from guidelens.engine import Engine, Sample
    from guidelens.guidance import Settings


@dataclass(frozen=True)
class Perturbations:
    """The perturbed forms of each prompt that a comparison also draws.

    :param specs: such as ``typo:edits=1``, see :func:`guidelens.prompts.perturb`.
    """

    specs: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison that is ready to be computed.

    :param cache: holds its models, metrics and engine.
    :param notes: what the reader should know about prompts, settings and perturbations.
    """

    request: ComparisonRequest
    cache: ComponentCache
    notes: tuple[Note, ...]


def plan_comparison(
    parts: Components,
    sampling: Sampling,
    seeds: Sequence[int],
    perturbations: Perturbations,
    device: str,
    batch_size: int | str,
    command: str,
) -> PlannedComparison:
    """Resolve the settings of a comparison and build its engine.

    :param parts: with prompts.
    :param batch_size: ``auto``: as many pictures as should fit into memory.
    :param command: recorded in ``config.json``.
    :raises UsageError: for components, settings or perturbations that do not fit each other.
    """
    from guidelens.engine import Sample

    everything, forms = perturb_prompts(parts.prompts, perturbations.specs, perturbations.seed)
    prompts = as_prompts(everything)
    settings, recorded = assemble(parts.generator, parts.guidance, sampling)
    schedules = [schedule.tabulated(settings.steps) for schedule in parts.schedules]
    check_schedules(schedules, settings.objectives, parts.guidance.name, settings.steps)
    engine = _engine(parts, settings, device, batch_size, Sample(prompts[0].text, schedules[0].schedule))
    cache = _component_cache(parts, device)
    cache.keep(recorded, engine)
    notes = [Note("", text) for text in settings.notes]
    notes += prompt_notes(parts.guidance.component, [prompt.text for prompt in prompts])
    request = ComparisonRequest(
        settings=recorded,
        prompts=prompts,
        schedules=tuple(schedules),
        seeds=tuple(seeds),
        metrics=tuple(parts.metrics),
        device=str(engine.device),
        batch_size=int(engine.batch_size),
        plugin_versions=parts.versions,
        plugins=parts.requests,
        command=command,
        perturbed=_records(parts.prompts, forms),
        notes=tuple(notes),
    )
    unchanged = [Note(form.clean, form.note) for form in forms if form.note]
    return PlannedComparison(request, cache, (*notes, *unchanged))


def compute_comparison(store: RunStore, planned: PlannedComparison, callbacks: Callbacks) -> Driver:
    """Compute the cells that an open store lacks, and return the driver that did it.

    :raises UsageError: where the store holds a run with other settings.
    :raises GuidelensError: for sampling that failed.
    """
    callbacks.report(planned.notes)
    request = planned.request
    cells = all_cells(request.prompts, request.schedules, request.seeds, request.settings)
    driver = Driver(store, [CellGroup(request.settings, cells)], request.metrics, callbacks)
    config = merged_config(request, store.config)
    plan = make_plan(cells, config["batches"], store.rows.keys(), request.batch_size)
    # The plan is on disk before the first cell, so that a rerun finds it.
    store.write_config({**config, "batches": plan.batches})
    if plan.todo:
        callbacks.report(upgrade_notes(store.rows.values(), versions(request.plugin_versions)))
    driver.run(plan, InProcess(planned.cache), batch_size=request.batch_size, tolerant=False)
    return driver


def _engine(
    parts: Components, settings: Settings, device: str, batch_size: int | str, sample: Sample
) -> Engine:
    """Return the engine of a run; ``auto`` becomes the batch size that ``sample`` predicts."""
    from guidelens.engine import Engine

    engine = Engine(
        parts.generator.component,
        parts.guidance.component,
        settings,
        device=device,
        batch_size=batch_size,  # type: ignore[arg-type]  # a number or "auto", which Engine checks
    )
    if engine.batch_size == "auto":
        engine.batch_size = engine.predict_batch_size(sample)
    return engine


def _component_cache(parts: Components, device: str) -> ComponentCache:
    """Return a cache that holds the components of a request, which may be objects without a spelling."""
    built: dict[tuple[str, str], Any] = {
        ("generator", parts.generator.name): parts.generator.component,
        ("guidance", parts.guidance.name): parts.guidance.component,
    }
    plugins: dict[tuple[str, str], Mapping[str, str]] = {
        ("generator", parts.generator.name): parts.generator.plugin,
        ("guidance", parts.guidance.name): parts.guidance.plugin,
    }
    cache = ComponentCache(
        lambda kind, name: built[kind, name],
        device=device,
        versions=lambda kind, name: plugins[kind, name],
    )
    cache.keep_metrics(parts.metrics)
    return cache


def _records(clean: Sequence[Prompt], forms: Sequence[Perturbed]) -> tuple[dict[str, Any], ...]:
    """Return the origin of each perturbed prompt, as ``config.json`` records it."""
    targets = {prompt.text: prompt.target for prompt in clean}
    return tuple(
        {
            "text": form.text,
            "reference": targets[form.clean],
            "clean": form.clean,
            "perturbation": form.spec,
            "edits": form.edits,
        }
        for form in forms
        if form.changed
    )
