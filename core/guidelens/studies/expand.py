"""From a study to its cells: every combination of every grid, with the key that identifies its picture.

A cell's key is that of a comparison's cell, a hash of its entire resolved configuration. So what two grids have
in common is one cell, computed once; a *member* says in which grid and under which names a cell stands.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.guarding import encode
from guidelens.runs.assemble import assemble
from guidelens.runs.config import Cell, NamedSchedule, Settings, canonical_json, join_steps, split_steps
from guidelens.runs.execute import Group, Workshop
from guidelens.runs.plan import check_schedules
from guidelens.runs.resolve import Components, Named, default_components
from guidelens.runs.scoring import NamedMetric, check_columns

from .file import Grid, Rule, Study
from .keys import NONE, PromptSource
from .lines import Place
from .prompts import Perturb, StudyPrompt, gather, perturbed

if TYPE_CHECKING:
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager

logger = logging.getLogger(__name__)

Columns = dict[str, Any]
"""What identifies a condition, by column."""


@dataclass
class Expansion:
    """All that a study asks for.

    :param members: one row per grid and cell, in the order of the file: ``grid``, ``key``, ``settings`` (id),
        ``pair`` and the columns of the condition; see docs/studies.md.
    :param groups: the cells by the engine that computes them; what grids share is there once.
    :param settings: by id.
    :param schedules: the weights of every schedule at every step, by name and number of steps.
    :param notes: what the text encoders have to say: (prompt, note).
    """

    members: list[dict[str, Any]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    settings: dict[str, Settings] = field(default_factory=dict)
    schedules: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)
    metrics: list[NamedMetric] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

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
    study: Study, plugins: PluginManager, workshop: Workshop, *, perturb: Perturb | None = None
) -> Expansion:
    """Look up and build the parts of a study and combine them.

    :param perturb: used in place of the library's.
    :raises UsageError: for names that do not exist and combinations that make no sense, with the line.
    :raises GuidelensError: for parts that cannot be built.
    """
    return _Expander(study, plugins, workshop, perturb).run()


def pair_id(clean: str, seed: int) -> str:
    """Return the id of all cells that share a clean prompt and a seed, and so all their noise."""
    return hashlib.sha256(canonical_json([clean, seed]).encode()).hexdigest()[:12]


class _Expander:
    def __init__(
        self, study: Study, plugins: PluginManager, workshop: Workshop, perturb: Perturb | None
    ) -> None:
        self.study, self.plugins, self.workshop, self.perturb = study, plugins, workshop, perturb
        self.result = Expansion()
        self._cells: dict[str, dict[str, Cell]] = {}
        self._options: dict[str, GuidanceOptions] = {}
        self._resolved: dict[str, tuple[str, Settings]] = {}
        self._schedules: dict[str, NamedSchedule] = {}
        self._prompts: dict[tuple[tuple[PromptSource, ...], tuple[str, ...]], list[StudyPrompt]] = {}
        self._notes: dict[str, dict[str, list[str]]] = {}
        self._checked: set[tuple[str, str, int]] = set()
        self._rules = [self._canonical(rule) for rule in study.rules]
        self._hits = [0] * len(self._rules)

    def run(self) -> Expansion:
        metrics = self._metric_specs()
        for grid in self.study.grids:
            before = len(self.result.members)
            self._grid(grid)
            if len(self.result.members) == before:
                raise self.study.error(
                    grid.place, f"the grid {grid.name!r} has no cells left after exclusions"
                )
        for rule, hits in zip(self.study.rules, self._hits, strict=True):
            if not hits:
                logger.warning("%s", self.study.error(rule.place, "this [[exclude]] excludes nothing"))
        with self._at(("metrics",)):
            self.result.metrics = self.workshop.metrics(metrics)
            check_columns(metric.as_dict() for metric in self.result.metrics)
        names = [(s.generator, s.guidance) for s in self.result.settings.values()]
        order = sorted(self._cells, key=lambda i: names.index(self._models(i)))  # stable: models stay loaded
        self.result.groups = [
            Group(self.result.settings[i], self._options[i], self._cells[i]) for i in order if self._cells[i]
        ]
        self.result.notes = [
            (text, note) for told in self._notes.values() for text, notes in told.items() for note in notes
        ]
        return self.result

    def _models(self, identifier: str) -> tuple[str, str]:
        settings = self.result.settings[identifier]
        return settings.generator, settings.guidance

    # -- one grid

    def _grid(self, grid: Grid) -> None:
        from guidelens.guidance import GuidanceOptions

        with self._at(self._model_place(grid, "generator")):
            generators = [self.plugins.resolve("generator", spec).spec for spec in grid.generator]
        with self._at(self._model_place(grid, "guidance")):
            models = [self.plugins.resolve("guidance", spec).spec for spec in grid.guidance]
        with self._at(self.study.key_place(grid, "schedules")):
            schedules = [self._schedule(name) for name in grid.schedules or self._default("schedule")]
        prompts = self._prompts_of(grid)
        defaults = asdict(GuidanceOptions())
        for generator, guidance in product(generators, models):
            notes = self._told(guidance, prompts)
            for columns, options in self._conditions(grid):
                outer = {"grid": grid.name, "generator": generator, "guidance": guidance, **columns}
                for prompt, schedule, seed in product(prompts, schedules, grid.seeds):
                    inner = {
                        "prompt": prompt.prompt.text,
                        "category": prompt.prompt.category,
                        "perturbation": prompt.perturbation,
                        "schedule": schedule.name,
                        "seed": seed,
                    }
                    if not self._excluded({**defaults, **options, **outer, **inner}):
                        self._add(grid, prompt, schedule, seed, {**outer, **inner}, options, notes)

    def _conditions(self, grid: Grid) -> Iterator[tuple[Columns, dict[str, Any]]]:
        """Yield the columns of each condition, and the values of its guidance options."""
        from guidelens.guidance import find_preset

        names = list(grid.options)
        for preset, *chosen in product(grid.presets, *grid.options.values()):
            own = find_preset(preset) if preset != NONE else None
            given = dict(zip(names, chosen, strict=True))
            base = {**(own.options if own is not None else {}), **given}
            axes = product(grid.samplers, grid.eta, grid.steps, grid.scales, grid.objective_scales)
            for sampler, eta, steps, scale, objective_scales in axes:
                used = sampler or (own.sampler if own is not None else "ddpm")
                inherited = own.eta if own is not None and used == own.sampler else 0.0
                values = {
                    **base,
                    **({"objective_scales": dict(objective_scales)} if objective_scales else {}),
                }
                if scale is not None:
                    values["scale"] = scale
                columns = {
                    "preset": preset,
                    "sampler": used,
                    "eta": inherited if eta is None else eta,
                    **dict(zip(("steps", "respacing"), split_steps(steps), strict=True)),
                    "scale": values.get("scale", 1.0),
                    "options": given,
                }
                yield columns, values

    def _add(
        self,
        grid: Grid,
        prompt: StudyPrompt,
        schedule: NamedSchedule,
        seed: int,
        columns: Columns,
        options: dict[str, Any],
        notes: Mapping[str, list[str]],
    ) -> None:
        identifier, settings = self._settle(grid, columns, options)
        with self._at(self.study.key_place(grid, "schedules")):
            table = self._table(schedule, settings.steps, columns["guidance"])
        cell = Cell(prompt.prompt, schedule, seed)
        key = cell.key(settings, table)
        self._cells[identifier].setdefault(key, cell)
        self.result.members.append(
            {
                **columns,
                "key": key,
                "settings": identifier,
                "pair": pair_id(prompt.clean.target, seed),
                "clean": prompt.clean.text,
                "reference": prompt.prompt.reference,
                "edits": prompt.edits,
                "objective_scales": dict(settings.options.get("objective_scales", {})),
                "notes": notes.get(prompt.prompt.text, []),
            }
        )

    def _settle(self, grid: Grid, columns: Columns, values: dict[str, Any]) -> tuple[str, Settings]:
        """Return the settings of a condition and their id; its engine is made once, to check them."""
        from guidelens.guidance import GuidanceOptions

        steps = join_steps(columns["steps"], columns["respacing"])
        named = [steps, *(columns[name] for name in ("generator", "guidance", "sampler", "eta"))]
        known = canonical_json([named, values])
        if known in self._resolved:
            return self._resolved[known]
        generator = self.workshop.model("generator", columns["generator"])
        guidance = self.workshop.model("guidance", columns["guidance"])
        with self._settling(grid):
            options = GuidanceOptions.of(values)
            if options.dose == "plain" or options.dose_steps == steps:
                # Both say the same, and the reference means nothing then: one and the same cell.
                options = replace(options, dose="plain", dose_steps=GuidanceOptions.dose_steps)
            _, settings = assemble(
                Components(
                    Named(columns["generator"], generator), Named(columns["guidance"], guidance), [], []
                ),
                steps=steps,
                sampler=columns["sampler"],
                eta=columns["eta"],
                options=options,
                device=self.workshop.device,
                dtype=self.study.dtype,
                batch_size=1,
            )
        identifier = hashlib.sha256(canonical_json(settings.as_dict()).encode()).hexdigest()[:8]
        self.result.settings[identifier] = settings
        self._options[identifier] = options
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
            return list(dict.fromkeys(self.plugins.resolve("metric", name).spec for name in names))

    def _default(self, kind: str) -> list[str]:
        found = [component.spec for component in default_components(self.plugins, kind)]
        if not found:
            raise UsageError("no schedules: name some, or load a plugin that offers some")
        return found

    def _schedule(self, spec: str) -> NamedSchedule:
        component = self.plugins.resolve("schedule", spec)
        if component.spec not in self._schedules:
            self._schedules[component.spec] = NamedSchedule(component.spec, component.build())
        return self._schedules[component.spec]

    def _table(self, schedule: NamedSchedule, steps: int, guidance: str) -> dict[str, list[float]]:
        key = (schedule.name, steps)
        if (guidance, *key) not in self._checked:
            objectives = self.workshop.model("guidance", guidance).objectives
            check_schedules([schedule], objectives, guidance, steps)
            self._checked.add((guidance, *key))
        if key not in self.result.schedules:
            self.result.schedules[key] = schedule.table(steps)
        return self.result.schedules[key]

    def _prompts_of(self, grid: Grid) -> list[StudyPrompt]:
        known = (grid.prompts, grid.perturbations)
        if known not in self._prompts:
            with self._at(self.study.key_place(grid, "prompts")):
                sources = grid.prompts or (PromptSource(set=self.plugins.resolve("prompts").spec),)
                prompts = gather(sources, self.study.base, lambda spec: self.plugins.build("prompts", spec))
            result: list[StudyPrompt] = []
            with self._at(self.study.key_place(grid, "perturbations")):
                # Perturbed prompts are nothing without the clean ones to compare with.
                for spec in dict.fromkeys((NONE, *grid.perturbations)):
                    result += perturbed(prompts, spec, self.study.perturbation_seed, self.perturb)
            self._prompts[known] = result
        return self._prompts[known]

    def _told(self, guidance: str, prompts: Sequence[StudyPrompt]) -> Mapping[str, list[str]]:
        told = self._notes.setdefault(guidance, {})
        new = list(dict.fromkeys(p.prompt.text for p in prompts if p.prompt.text not in told))
        if new:
            notes = encode(self.workshop.model("guidance", guidance), new).notes
            told |= {text: [] for text in new}
            told |= {text: list(lines) for text, lines in zip(new, notes, strict=False)}
        return told

    # -- exclusions

    def _canonical(self, rule: Rule) -> Rule:
        """Return a rule with components spelled as cells have them."""
        conditions = {}
        for name, values in rule.conditions.items():
            with self._at((*rule.place, name)):
                component = name in ("generator", "guidance", "schedule")
                conditions[name] = tuple(
                    self.plugins.resolve(name, v).spec if component and isinstance(v, str) else v
                    for v in values
                )
        return replace(rule, conditions=conditions)

    def _excluded(self, columns: Columns) -> bool:
        for i, rule in enumerate(self._rules):
            if all(columns[name] in values for name, values in rule.conditions.items()):
                self._hits[i] += 1
                return True
        return False

    def _model_place(self, grid: Grid, kind: str) -> Place | None:
        """Return where a model is named; None where the caller has put another in its place."""
        return None if kind in self.study.overrides else self.study.key_place(grid, kind)

    @contextmanager
    def _at(self, place: Place | None) -> Iterator[None]:
        """Say on which line of the study a mistake is; None: on none."""
        try:
            yield
        except UsageError as error:
            if place is None:
                raise
            raise self.study.error(place, str(error)) from error

    @contextmanager
    def _settling(self, grid: Grid) -> Iterator[None]:
        """Say on which line of a grid a setting is that does not fit."""
        try:
            yield
        except UsageError as error:
            place = self.study.blamed_place(grid, str(error))
            raise self.study.error(place, f"grid {grid.name!r}: {error}") from error
