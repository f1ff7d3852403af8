"""Metrics on pictures: a metric that fails on one picture is recorded there and spoils nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Column, Metric, Prompt
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import one_line, scores_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedMetric:
    """A metric and the name it goes by in rows and messages."""

    name: str
    metric: Metric

    def __post_init__(self) -> None:
        """Refuse a metric whose columns are not declared.

        :raises GuidelensError: naming the metric, and what was found in place of a column.
        """
        columns: Any = self.metric.columns
        odd = [column for column in columns if not isinstance(column, Column)]
        if odd:
            raise GuidelensError(
                f"metric {self.name!r} is unusable: its columns contain {odd[0]!r}, a {type(odd[0]).__name__}; "
                "declare each as guidelens.Column(name, meaning)"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.metric.columns)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` records: its name, and everything that its columns declare."""
        return {"name": self.name, "columns": [asdict(column) for column in self.metric.columns]}


@dataclass
class Scores:
    """What the metrics said about one picture."""

    values: dict[str, float] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    """Names of the metrics that succeeded, whether or not every column applied."""
    errors: dict[str, str] = field(default_factory=dict)
    """Name of each metric that failed -> reason in one line."""


def check_columns(metrics: Iterable[Mapping[str, Any]]) -> None:
    """Raise UsageError where two metrics (:meth:`NamedMetric.as_dict`) have a column of the same name."""
    owner: dict[str, str] = {}
    for metric in metrics:
        for column in (declared["name"] for declared in metric["columns"]):
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
            answers = scores_of(item.metric, images, prompts)
        except (Exception, SystemExit):  # whatever a plugin raises must not cost other pictures their scores
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


def _score_one(item: NamedMetric, image: Tensor, prompt: Prompt, result: Scores) -> None:
    try:
        (answer,) = scores_of(item.metric, image, [prompt])
    except (Exception, SystemExit) as error:  # as above
        logger.debug("metric %s failed on %r", item.name, prompt.text, exc_info=True)
        result.errors[item.name] = one_line(error)
    else:
        result.values.update(answer)
        result.scored.append(item.name)
