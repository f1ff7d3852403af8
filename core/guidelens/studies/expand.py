"""Expand a study into cells: every combination of every grid, with the key of its picture.

As in a comparison, a cell's key is a hash of its entire resolved configuration. A cell that several grids share is
computed once. A *member* is a row with a grid, a cell of it and the names of its condition.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins.spelling import suggestion
from guidelens.prompts import fact_values
from guidelens.runs.assemble import assemble
from guidelens.runs.config import Cell, RunSettings, canonical_json
from guidelens.runs.execute import CellGroup, ComponentCache
from guidelens.runs.notes import Note, prompt_notes
from guidelens.runs.plan import check_schedules
from guidelens.runs.resolve import Named, default_components
from guidelens.runs.scoring import NamedMetric, check_columns
from guidelens.sampling import NONE, Sampling, split_steps
from guidelens.schedules import NamedSchedule
from guidelens.words import plural

from .file import Grid, Rule, Study
from .keys import SAMPLING_KEYS, PromptSource
from .line_numbers import Place
from .prompts import Perturb, StudyPrompt, gather, perturbed

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

logger = logging.getLogger(__name__)

Columns = dict[str, Any]
"""The values that identify a condition, by column."""


@dataclass
class Expansion:
    """Everything that a study requests.

    :param members: one row per grid and cell, in the order of the file: ``grid``, ``key``, ``settings`` (id),
        ``pair`` and the columns of the condition; see docs/studies.md.
    :param groups: the cells, grouped by engine. A cell in several grids is listed once.
    :param settings: by id.
    :param schedules: the weights of every schedule at every step, by name and number of steps.
    :param notes: notes about prompts (from the text encoders) and about the settings.
    """

    members: list[dict[str, Any]] = field(default_factory=list)
    groups: list[CellGroup] = field(default_factory=list)
    settings: dict[str, RunSettings] = field(default_factory=dict)
    schedules: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)
    metrics: list[NamedMetric] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Return the prompt of every cell by key."""
        return {key: cell.prompt for group in self.groups for key, cell in group.cells.items()}

    def sizes(self) -> dict[str, int]:
        """Return the number of cells of each grid."""
        counts: dict[str, set[str]] = {}
        for member in self.members:
            counts.setdefault(member["grid"], set()).add(member["key"])
        return {grid: len(keys) for grid, keys in counts.items()}


def expand(
    study: Study, plugins: PluginManager, cache: ComponentCache, *, perturb: Perturb | None = None
) -> Expansion:
    """Look up, build and combine the parts of a study.

    :param perturb: replaces the library's perturbations.
    :raises UsageError: for unknown names and invalid combinations, with the line.
    :raises GuidelensError: for parts that cannot be built.
    """
    return _Expander(study, plugins, cache, perturb).run()


def pair_id(clean: str, seed: int) -> str:
    """Return the id of a clean prompt and a seed. Cells with the same id have the same noise."""
    return hashlib.sha256(canonical_json([clean, seed]).encode()).hexdigest()[:12]


class _Expander:
    def __init__(
        self, study: Study, plugins: PluginManager, cache: ComponentCache, perturb: Perturb | None
    ) -> None:
        self.study, self.plugins, self.cache, self.perturb = study, plugins, cache, perturb
        self.result = Expansion()
        self._cells: dict[str, dict[str, Cell]] = {}
        self._resolved: dict[str, tuple[str, RunSettings]] = {}
        self._tables: dict[tuple[str, int], NamedSchedule] = {}
        self._schedules: dict[str, NamedSchedule] = {}
        self._prompts: dict[tuple[tuple[PromptSource, ...], tuple[str, ...]], list[StudyPrompt]] = {}
        self._notes: dict[str, dict[str, list[str]]] = {}
        self._checked: set[tuple[str, str, int]] = set()
        self._rules = [self._canonical(rule) for rule in study.rules]
        self._hits = [0] * len(self._rules)
        self._left_out: set[str] = set()

    def run(self) -> Expansion:
        self._check_device()
        self._warn_of_unknown_claims()
        metrics = self._metric_specs()
        for grid in self.study.grids:
            before = len(self.result.members)
            self._grid(grid)
            if len(self.result.members) == before:
                raise self.study.error(
                    grid.place,
                    f"the grid {grid.name!r} has no cells left after exclusions"
                    + (" (prompts and seeds of an included search are left out)" if self._left_out else ""),
                )
        for rule, hits in zip(self.study.rules, self._hits, strict=True):
            if not hits:
                logger.warning("%s", self.study.error(rule.place, "this [[exclude]] excludes nothing"))
        with self._at(("metrics",)):
            self.result.metrics = self.cache.metrics(metrics)
            check_columns(metric.as_dict() for metric in self.result.metrics)
        names = [(s.generator.name, s.guidance.name) for s in self.result.settings.values()]
        order = sorted(self._cells, key=lambda i: names.index(self._models(i)))  # stable: models stay loaded
        self.result.groups = [
            CellGroup(self.result.settings[i], self._cells[i]) for i in order if self._cells[i]
        ]
        self.result.notes += [
            Note(text, note)
            for known in self._notes.values()
            for text, notes in known.items()
            for note in notes
        ]
        if self._left_out:
            count = plural(len(self._left_out), "prompt")
            text = f"{count} of the search for scales (include) left out: scales were chosen on them"
            self.result.notes.append(Note("", text))
        self.result.notes = list(dict.fromkeys(self.result.notes))
        return self.result

    def _models(self, identifier: str) -> tuple[str, str]:
        settings = self.result.settings[identifier]
        return settings.generator.name, settings.guidance.name

    def _check_device(self) -> None:
        """:raises UsageError: the machine lacks the device, or the device lacks the study's dtype."""
        from guidelens.networks import resolve_device, resolve_dtype

        with self._at(("device",)):
            device = resolve_device(self.cache.device)
        with self._at(("dtype",)):
            resolve_dtype(self.study.dtype, device)

    def _warn_of_unknown_claims(self) -> None:
        """Warn of names of claims that no loaded plugin registers; a plugin may bring them for the report."""
        if not any(grid.claims for grid in self.study.grids):
            return
        claims = self.plugins.claims()
        known = [*(claim.id for claim in claims), *(q.id for claim in claims for q in claim.questions)]
        for grid in self.study.grids:
            for name in grid.claims:
                if name not in known:
                    what = f"no plugin registers the claim {name!r}{suggestion(name, known)}"
                    place = self.study.key_place(grid, "claims")
                    logger.warning("%s", self.study.error(place, what))

    # -- one grid

    def _grid(self, grid: Grid) -> None:
        with self._at(self._model_place(grid, "generator")):
            generators = [self._spec("generator", spec) for spec in grid.generator]
        with self._at(self._model_place(grid, "guidance")):
            pairs = [(name, self._guidance(spec, name)) for name in generators for spec in grid.guidance]
        with self._at(self.study.key_place(grid, "schedules")):
            schedules = [self._schedule(name) for name in grid.schedules or self._default("schedule")]
        prompts = self._prompts_of(grid)
        for generator, guidance in pairs:
            notes = self._notes_on(guidance, prompts)
            for columns, sampling in self._conditions(grid):
                outer = {"grid": grid.name, "generator": generator, "guidance": guidance, **columns}
                for prompt, schedule, seed in product(prompts, schedules, grid.seeds):
                    inner = {
                        "prompt": prompt.prompt.text,
                        "category": prompt.prompt.category,
                        "perturbation": prompt.perturbation,
                        "schedule": schedule.name,
                        "seed": seed,
                    }
                    if self._searched(prompt, seed):
                        continue
                    if not self._excluded({**sampling.as_dict(), **outer, **inner}):
                        self._add(grid, prompt, schedule, seed, {**outer, **inner}, sampling, notes)

    def _conditions(self, grid: Grid) -> Iterator[tuple[Columns, Sampling]]:
        """Yield the columns of each condition, and its sampling."""
        own_keys = [option.name for option in SAMPLING_KEYS.values() if option.name in grid.sampling]
        names = [*(name for name in grid.sampling if name not in own_keys), *own_keys]
        for preset, *values in product(grid.presets, *(grid.sampling[name] for name in names)):
            given = dict(zip(names, values, strict=True))
            with self._settling(grid):
                sampling = (
                    Sampling.of({**given, "dtype": self.study.dtype})
                    if preset == NONE
                    else Sampling.preset(preset, **given, dtype=self.study.dtype)
                )
            yield (
                {
                    "preset": preset,
                    "sampler": sampling.sampler,
                    "eta": sampling.eta,
                    **dict(zip(("steps", "respacing"), split_steps(sampling.steps), strict=True)),
                    "scale": sampling.scale,
                    "options": {name: given[name] for name in names if name not in own_keys},
                },
                sampling,
            )

    def _add(
        self,
        grid: Grid,
        prompt: StudyPrompt,
        schedule: NamedSchedule,
        seed: int,
        columns: Columns,
        sampling: Sampling,
        notes: Mapping[str, list[str]],
    ) -> None:
        identifier, settings = self._settle(grid, columns["generator"], columns["guidance"], sampling)
        with self._at(self.study.key_place(grid, "schedules")):
            table = self._table(schedule, settings.steps, columns["guidance"])
        cell = Cell(prompt.prompt, table, seed)
        key = cell.key(settings)
        self._cells[identifier].setdefault(key, cell)
        self.result.members.append(
            {
                **columns,
                "key": key,
                "settings": identifier,
                "pair": pair_id(prompt.clean.target, seed),
                "clean": prompt.clean.text,
                "reference": prompt.prompt.reference,
                "facts": fact_values(prompt.prompt.facts),
                "edits": prompt.edits,
                "objective_scales": dict(settings.sampling.objective_scales),
                "notes": notes.get(prompt.prompt.text, []),
            }
        )

    def _settle(
        self, grid: Grid, generator: str, guidance: str, sampling: Sampling
    ) -> tuple[str, RunSettings]:
        """Return the settings of a condition, and their id."""
        known = canonical_json([generator, guidance, sampling.as_dict()])
        if known in self._resolved:
            return self._resolved[known]
        models = [
            Named(name, self.cache.model(kind, name))
            for kind, name in (("generator", generator), ("guidance", guidance))
        ]
        with self._settling(grid):
            resolved, settings = assemble(models[0], models[1], sampling)
        identifier = hashlib.sha256(canonical_json(settings.identity()).encode()).hexdigest()[:8]
        self.result.notes += [Note("", text) for text in resolved.notes]
        self.result.settings[identifier] = settings
        self._cells.setdefault(identifier, {})
        self._resolved[known] = (identifier, settings)
        return identifier, settings

    # -- parts

    def _metric_specs(self) -> list[str]:
        names = self.study.metrics
        if names is None:
            grid = self.study.grids[0]
            with self._at(self._model_place(grid, "generator")):
                first = self.plugins.resolve("generator", grid.generator[0])
            names = tuple(c.spec for c in default_components(self.plugins, "metric", first))
        with self._at(("metrics",)):
            return list(dict.fromkeys(self._spec("metric", name) for name in names))

    def _spec(self, kind: str, spec: str | None) -> str:
        """Return the spelling of a component. Relative paths in a study file are relative to its folder."""
        base = None if kind in self.study.overrides else self.study.base
        return self.plugins.resolve(kind, spec, base).spec

    def _guidance(self, spec: str | None, generator: str) -> str:
        if spec is not None:
            return self._spec("guidance", spec)
        return self.plugins.resolve("guidance", beside=self.plugins.resolve("generator", generator)).spec

    def _prompt_set(self, spec: str) -> Any:
        return self.plugins.resolve("prompts", spec, self.study.base).build()

    def _default(self, kind: str) -> list[str]:
        found = [component.spec for component in default_components(self.plugins, kind)]
        if not found:
            raise UsageError("no schedules: name some, or load a plugin that offers some")
        return found

    def _schedule(self, spec: str) -> NamedSchedule:
        """Return a schedule under the name that the study writes, also where that has a path from its folder."""
        name = self.plugins.resolve("schedule", spec).spec
        if name not in self._schedules:
            schedule = self.plugins.build("schedule", self._spec("schedule", spec))
            self._schedules[name] = NamedSchedule(name, schedule)
        return self._schedules[name]

    def _table(self, schedule: NamedSchedule, steps: int, guidance: str) -> NamedSchedule:
        """Return a schedule as a table, checked against the objectives of the guidance model."""
        key = (schedule.name, steps)
        if key not in self._tables:
            self._tables[key] = schedule.tabulated(steps)
            self.result.schedules[key] = self._tables[key].table(steps).by_objective
        if (guidance, *key) not in self._checked:
            objectives = self.cache.model("guidance", guidance).objectives
            check_schedules([self._tables[key]], objectives, guidance, steps)
            self._checked.add((guidance, *key))
        return self._tables[key]

    def _prompts_of(self, grid: Grid) -> list[StudyPrompt]:
        with self._at(self.study.key_place(grid, "prompts")):
            sources = grid.prompts or (PromptSource(set=self._default_prompts(grid)),)
        known = (sources, grid.perturbations)
        if known not in self._prompts:
            with self._at(self.study.key_place(grid, "prompts")):
                prompts = gather(sources, self.study.base, self._prompt_set)
            result: list[StudyPrompt] = []
            with self._at(self.study.key_place(grid, "perturbations")):
                # Perturbed prompts are compared with the clean ones, so these are needed too.
                for spec in dict.fromkeys((NONE, *grid.perturbations)):
                    result += perturbed(prompts, spec, self.study.perturbation_seed, self.perturb)
            self._prompts[known] = result
        return self._prompts[known]

    def _default_prompts(self, grid: Grid) -> str:
        generator = self.plugins.resolve("generator", grid.generator[0])
        return self.plugins.resolve("prompts", beside=generator).spec

    def _notes_on(self, guidance: str, prompts: Sequence[StudyPrompt]) -> Mapping[str, list[str]]:
        """Return the notes of the text encoder about each prompt."""
        known = self._notes.setdefault(guidance, {})
        new = [prompt.prompt.text for prompt in prompts if prompt.prompt.text not in known]
        if new:
            known |= {text: [] for text in new}
            for note in prompt_notes(self.cache.model("guidance", guidance), new):
                known[note.prompt].append(note.text)
        return known

    # -- exclusions

    def _canonical(self, rule: Rule) -> Rule:
        """Return a rule with the components spelled as in the cells."""
        conditions = {}
        for name, values in rule.conditions.items():
            with self._at((*rule.place, name)):
                component = name in ("generator", "guidance", "schedule")
                conditions[name] = tuple(
                    self._spec(name, v) if component and isinstance(v, str) else v for v in values
                )
        return replace(rule, conditions=conditions)

    def _searched(self, prompt: StudyPrompt, seed: int) -> bool:
        """Whether a cell has a prompt or a seed on which an included file was tuned; it is left out, and counted."""
        if prompt.clean.text in self.study.search_prompts:
            self._left_out.add(prompt.clean.text)
            return True
        return seed in self.study.search_seeds

    def _excluded(self, columns: Columns) -> bool:
        for i, rule in enumerate(self._rules):
            if all(columns[name] in values for name, values in rule.conditions.items()):
                self._hits[i] += 1
                return True
        return False

    def _model_place(self, grid: Grid, kind: str) -> Place | None:
        """Return the place of a model in the file; None if the caller has replaced it."""
        return None if kind in self.study.overrides else self.study.key_place(grid, kind)

    @contextmanager
    def _at(self, place: Place | None) -> Iterator[None]:
        """Add the line of the study to errors. None: no line."""
        try:
            yield
        except UsageError as error:
            if place is None:
                raise
            raise self.study.error(place, str(error)) from error

    @contextmanager
    def _settling(self, grid: Grid) -> Iterator[None]:
        """Add the line of the setting in a grid to errors."""
        try:
            yield
        except UsageError as error:
            place = self.study.setting_place(grid, error.setting)
            raise self.study.error(place, f"grid {grid.name!r}: {error}") from error
