"""Metrics on pictures: a metric that fails on one picture is recorded there and spoils nothing else."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Metric, Prompt
from guidelens.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedMetric:
    """A metric and the name it goes by in rows and messages."""

    name: str
    metric: Metric


@dataclass
class Scores:
    """What the metrics said about one picture."""

    values: dict[str, float] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    """Names of the metrics that succeeded, whether or not every column applied."""
    errors: dict[str, str] = field(default_factory=dict)
    """Name of each metric that failed -> reason in one line."""


def check_columns(metrics: Iterable[Mapping[str, Any]]) -> None:
    """Raise UsageError where two metrics (``name`` and ``columns`` each) have a column of the same name."""
    owner: dict[str, str] = {}
    for metric in metrics:
        for column in metric["columns"]:
            if column in owner:
                raise UsageError(
                    f"metrics {owner[column]!r} and {metric['name']!r} both have a column {column!r}; "
                    "choose one of them"
                )
            owner[column] = metric["name"]


def score(
    metrics: Sequence[NamedMetric], pictures: Sequence[Image], prompts: Sequence[Prompt]
) -> list[Scores]:
    """Score pictures of equal size, each metric on all at once, or one by one where that fails."""
    results = [Scores() for _ in pictures]
    if not pictures or not metrics:
        return results
    import torch

    from guidelens.pictures import to_tensor

    images = torch.stack([to_tensor(picture) for picture in pictures])
    for item in metrics:
        try:
            answers = _checked(item, item.metric.score(images, list(prompts)), len(prompts))
        except Exception:  # a plugin's code: whatever it raises must not cost the other pictures their scores
            logger.debug("metric %s failed on a batch; trying one by one", item.name, exc_info=True)
            for i, prompt in enumerate(prompts):
                _score_one(item, images[i : i + 1], prompt, results[i])
        else:
            for result, answer in zip(results, answers, strict=True):
                result.values.update(answer)
                result.scored.append(item.name)
    return results


def failures(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """Return (metric, reason, number of cells) for each way in which a metric failed on result rows."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for failure in row["metric_errors"].items():
            counts[failure] = counts.get(failure, 0) + 1
    return [(metric, reason, count) for (metric, reason), count in counts.items()]


def _score_one(item: NamedMetric, image: object, prompt: Prompt, result: Scores) -> None:
    try:
        (answer,) = _checked(item, item.metric.score(image, [prompt]), 1)  # type: ignore[arg-type]
    except Exception as error:  # as above
        logger.debug("metric %s failed on %r", item.name, prompt.text, exc_info=True)
        result.errors[item.name] = " ".join(f"{type(error).__name__}: {error}".split())
    else:
        result.values.update(answer)
        result.scored.append(item.name)


def _checked(item: NamedMetric, answers: Sequence[Mapping[str, float]], count: int) -> list[dict[str, float]]:
    """Hold a metric to its contract: one dict per image, declared columns, finite numbers."""
    if len(answers) != count:
        raise ValueError(f"returned {len(answers)} results for {count} pictures")
    for answer in answers:
        for column, value in answer.items():
            if column not in item.metric.columns:
                raise ValueError(
                    f"column {column!r} is not among its columns {', '.join(item.metric.columns)}"
                )
            if not math.isfinite(value):
                raise ValueError(f"{column} is {value}, not a finite number")
    order = item.metric.columns
    return [{column: float(answer[column]) for column in order if column in answer} for answer in answers]
