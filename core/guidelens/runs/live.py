"""Draw pictures under several schedules and one without guidance, side by side, and yield every step.

All pictures start from the same noise and are drawn in one batch. :func:`guidelens.compare` draws the same pictures for
the same request. They are equal bit for bit on the same machine, if all of them fit into one of its batches.
"""

from __future__ import annotations

import collections.abc as cabc
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Generator, GuidanceModel, Prompt
from guidelens.pictures import to_levels, to_picture
from guidelens.plugins import Component, PluginManager
from guidelens.runs.assemble import assemble
from guidelens.runs.config import RunSettings, as_prompts
from guidelens.runs.notes import Note, prompt_notes
from guidelens.runs.plan import check_schedules
from guidelens.runs.resolve import Named, default_components
from guidelens.runs.scoring import NamedMetric, score
from guidelens.runs.telemetry import saliency_maps
from guidelens.sampling import Sampling
from guidelens.schedules import read_schedules
from guidelens.weights.store import build_all

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from guidelens.engine import Step

UNGUIDED = "unguided"
"""The name of the column without guidance."""

SCORING_SHARE = 0.2
"""The largest share of the elapsed time that is spent on scoring predictions. Finished pictures are always scored."""


@dataclass(frozen=True)
class LiveColumn:
    """One picture while it is drawn.

    :param weights: the weights of its schedule at each step, by objective; empty without guidance.
    """

    name: str
    weights: Mapping[str, Sequence[float]]


@dataclass(frozen=True, eq=False)
class LiveView:
    """One column at one step. Values of inactive objectives are None.

    :param picture: the predicted x0 of the step, (H, W, C) uint8; after the last step, the finished picture.
    :param pull: the size of the weighted gradient with respect to x0, (h, w) uint8, where 255 is its maximum; None for
        a step without guidance.
    :param saliency: the same map for each objective alone, if several are active.
    :param scores: the scores by metric column; None if this prediction was not scored.
    """

    picture: np.ndarray
    losses: Mapping[str, float | None] = field(default_factory=dict)
    gradient_norms: Mapping[str, float | None] = field(default_factory=dict)
    cosines: Mapping[str, float | None] = field(default_factory=dict)
    pull: np.ndarray | None = None
    saliency: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class LiveStep:
    """All columns at one step. The last one, with ``index`` N and progress 1, has the finished pictures.

    :param errors: the reason why a metric failed, by metric.
    """

    index: int
    progress: float
    views: tuple[LiveView, ...]
    errors: Mapping[str, str] = field(default_factory=dict)


class LiveModels:
    """Keeps the latest generator, its metrics and the latest guidance model.

    :param device: see :class:`~guidelens.engine.Engine`.
    """

    def __init__(self, plugins: PluginManager, *, device: str = "auto") -> None:
        self.plugins, self.device = plugins, device
        self._built: dict[str, tuple[str, Any]] = {}

    def load(
        self, generator: str | None = None, guidance: str | None = None
    ) -> tuple[Named[Generator], Named[GuidanceModel], list[NamedMetric]]:
        """Return a generator, a guidance model, and the metrics that score pictures of this generator by default.

        :raises GuidelensError: for unknown names, or components that cannot be built.
        """
        first = self.plugins.resolve("generator", generator)
        second = self.plugins.resolve("guidance", guidance, beside=first)
        metrics = [
            NamedMetric(item.spec, self._get(item))
            for item in default_components(self.plugins, "metric", first)
        ]
        built = build_all(lambda: self._get(first), lambda: self._get(second))
        return Named(first.spec, built[0]), Named(second.spec, built[1]), metrics

    def _get(self, component: Component) -> Any:
        kind = component.info.kind
        place = f"metric {component.spec}" if kind == "metric" else kind
        if self._built.get(place, ("",))[0] != component.spec:
            self._built.pop(place, None)  # free the memory of the old one before the new one is built
            self._built[place] = (component.spec, component.build())
        return self._built[place][1]


class LiveRun:
    """Draws one prompt under several schedules with one seed.

    :param schedules: names, such as ``blend:itc=0.5,cap=0.5``.
    :ivar notes: what the reader should know about the prompt and the settings.
    :raises UsageError: at once, for an invalid request.
    :raises GuidelensError: at once, for components that cannot be built.
    """

    def __init__(
        self,
        models: LiveModels,
        prompt: str | Prompt,
        schedules: Sequence[str],
        *,
        seed: int = 0,
        sampling: Sampling | None = None,
        generator: str | None = None,
        guidance: str | None = None,
    ) -> None:
        from guidelens.engine import Engine

        (self.prompt,) = as_prompts([prompt])
        named = read_schedules(schedules, lambda: models.plugins)
        built, model, self.metrics = models.load(generator, guidance)
        self.settings: RunSettings
        settings, self.settings = assemble(built, model, sampling or Sampling())
        self.schedules = [schedule.tabulated(settings.steps) for schedule in named]
        check_schedules(self.schedules, settings.objectives, model.name, settings.steps)
        self.objectives = tuple(sorted(settings.objectives))
        self.seed = seed
        self._engine = Engine(built.component, model.component, settings, device=models.device)
        self.notes = (
            *(Note("", text) for text in settings.notes),
            *prompt_notes(model.component, [self.prompt.text]),
        )

    @property
    def columns(self) -> tuple[LiveColumn, ...]:
        """The column without guidance, then one column for each schedule."""
        steps = self.settings.steps
        drawn = [LiveColumn(each.name, each.table(steps).by_objective) for each in self.schedules]
        return (LiveColumn(UNGUIDED, {}), *drawn)

    def steps(self) -> cabc.Generator[LiveStep, None, None]:
        """Yield every step, then the finished pictures. A step is computed when it is requested; ``close()`` stops.

        :raises GuidelensError: if sampling fails.
        """
        from guidelens.engine import Sample

        samples = [
            Sample(self.prompt.text, None, self.seed),
            *(Sample(self.prompt.text, each.schedule, self.seed, label=each.name) for each in self.schedules),
        ]
        scorer = _Scorer(self.metrics, self.prompt)
        with closing(self._engine.stream(samples)) as stream:
            for step in stream:
                scores, errors = scorer.score(step.preview, within_budget=True)
                series = [{}, *(self._series(step, row) for row in range(1, len(samples)))]
                yield LiveStep(step.index, step.progress, _views(step.preview, series, scores), errors)
            scores, errors = scorer.score(step.picture)
            views = _views(step.picture, [{}] * len(samples), scores)
            yield LiveStep(self.settings.steps, 1.0, views, errors)

    def _series(self, step: Step, row: int) -> dict[str, Any]:
        """Return losses, norms, cosines and maps of the schedule in one row of the batch."""
        import torch

        used = self.schedules[row - 1].table(self.settings.steps).by_objective
        losses = {name: _number(step.losses[name][row]) for name in used if name in step.losses}
        active = [name for name, loss in losses.items() if loss is not None]
        pairs = [pair for pair in step.cosines if set(pair) <= set(used)]
        scales = self.settings.sampling.objective_scales
        found: dict[str, Any] = {
            "losses": losses,
            "gradient_norms": {name: _number(step.gradient_norms[name][row]) for name in losses},
            "cosines": {"|".join(pair): _number(step.cosines[pair][row]) for pair in pairs},
        }
        if active:
            pulls = [step.weights[k][row] * scales[k] * step.gradients[k][row] for k in active]
            found["pull"] = _map(torch.stack(pulls).sum(0))
        if len(active) > 1:
            found["saliency"] = {name: _map(step.gradients[name][row]) for name in active}
        return found


class _Scorer:
    """Scores all finished pictures, and predictions as long as that takes a small share of the time."""

    def __init__(self, metrics: Sequence[NamedMetric], prompt: Prompt) -> None:
        self._metrics, self._prompt = metrics, prompt
        self._started, self._spent = time.perf_counter(), 0.0

    def score(
        self, images: Tensor, *, within_budget: bool = False
    ) -> tuple[list[Mapping[str, float] | None], dict[str, str]]:
        """Return the scores of each image (B, 3, h, w), None for an image without scores, and the errors by metric."""
        now = time.perf_counter()
        if not self._metrics or (within_budget and self._spent > SCORING_SHARE * (now - self._started)):
            return [None] * len(images), {}
        answers = score(self._metrics, [to_picture(image) for image in images], [self._prompt] * len(images))
        self._spent += time.perf_counter() - now
        errors = {name: reason for answer in answers for name, reason in answer.errors.items()}
        return [answer.values for answer in answers], errors


def _views(
    images: Tensor,
    series: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, float] | None],
) -> tuple[LiveView, ...]:
    return tuple(
        LiveView(to_levels(image).numpy(), scores=scored, **told)
        for image, told, scored in zip(images, series, scores, strict=True)
    )


def _map(gradient: Tensor) -> np.ndarray:
    levels, _ = saliency_maps(gradient[None])
    return levels[0].cpu().numpy()


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
