"""Scores of guided sampling: the sweep that chose the default scales, and the scores of the model cards.

Both draw prompts of the world: the sweep from the split ``sweep``, the scores from the split ``test``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from guidelens.contracts import Generator, GuidanceModel, Prompt, Schedule
from guidelens.engine import Engine, Sample
from guidelens.sampling import Sampling

from .world import World

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Constant:
    """A schedule with constant weights."""

    constant: Mapping[str, float]

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the same weights at any progress."""
        return self.constant


def score_schedules(
    world: World,
    engine: Engine,
    schedules: Mapping[str, Schedule],
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
) -> Iterator[tuple[str, dict[str, float]]]:
    """Draw every prompt with every schedule and seed. Yield (name of the schedule, scores)."""
    metric = world.metric
    cells = [(name, prompt, seed) for name in schedules for prompt in prompts for seed in seeds]
    samples = [Sample(prompt.text, schedules[name], seed) for name, prompt, seed in cells]
    for (name, prompt, _), result in zip(cells, engine.run(samples), strict=True):
        yield name, metric.score(result.image[None], [prompt])[0]


def _mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    columns = dict.fromkeys(column for row in rows for column in row)
    return {column: float(np.mean([row[column] for row in rows if column in row])) for column in columns}


def sweep_scales(
    world: World,
    generator: Generator,
    guidance: GuidanceModel,
    scales: Mapping[str, Sequence[float]],
    *,
    limit: int = 16,
    seeds: Sequence[int] = (0,),
    steps: int = 50,
    batch_size: int = 32,
    dtype: str = "float32",
    progress: Progress = lambda _: None,
) -> list[dict[str, Any]]:
    """Try scales c_k of each objective alone.

    Uses ``limit`` single-object and ``limit`` positional prompts of the sweep split.

    :returns: one row per objective and scale, with mean scores over all and alignment by category.
    """
    rows, realism = [], world.metric.realism
    for objective, values in scales.items():
        for value in values:
            sampling = Sampling(steps=steps, objective_scales={objective: value}, dtype=dtype)
            engine = Engine(generator, guidance, sampling, batch_size=batch_size)
            row: dict[str, Any] = {"objective": objective, "scale": value}
            scored: list[dict[str, float]] = []
            for category in ("single", "positional"):
                prompts = world.prompts.draw(category, limit, seed=1, split="sweep")
                schedule = {objective: Constant({objective: 1.0})}
                part = [scores for _, scores in score_schedules(world, engine, schedule, prompts, seeds)]
                row[f"alignment_{category}"] = float(np.mean([scores["alignment"] for scores in part]))
                scored += part
            row |= _mean_scores(scored)
            rows.append(row)
            progress(
                f"{objective} {value:g}: alignment {row['alignment_single']:.3f} (single) "
                f"{row['alignment_positional']:.3f} (positional), {realism} {row[realism]:.3f}"
            )
    return rows


def score_guidance(
    world: World,
    generator: Generator,
    guidance: GuidanceModel,
    schedules: Mapping[str, Schedule],
    *,
    category: str,
    limit: int = 200,
    seeds: Sequence[int] = (0, 1),
    steps: int = 50,
    batch_size: int = 50,
    dtype: str = "float32",
    progress: Progress = lambda _: None,
) -> dict[str, dict[str, float]]:
    """Score schedules at the default scales on ``limit`` prompts of a category, from the test split."""
    engine = Engine(generator, guidance, Sampling(steps=steps, dtype=dtype), batch_size=batch_size)
    prompts = world.prompts.draw(category, limit, seed=0, split="test")
    scored: dict[str, list[dict[str, float]]] = {name: [] for name in schedules}
    for name, scores in score_schedules(world, engine, schedules, prompts, seeds):
        scored[name].append(scores)
        if len(scored[name]) == limit * len(seeds):
            means = _mean_scores(scored[name])
            progress(f"{category}, {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in means.items()))
    return {name: _mean_scores(rows) for name, rows in scored.items()}
