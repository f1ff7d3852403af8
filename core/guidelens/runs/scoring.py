"""Score pictures with metrics. A failure on one picture is recorded there and does not affect other pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Column, Metric, Prompt, QuestionedScores, QuestionScore
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import one_line, questioned_scores_of
from guidelens.words import shortened

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

logger = logging.getLogger(__name__)

QUESTIONS_KEPT = 32
"""Most questions that a row keeps of each metric."""
TEXT_KEPT = 200
"""Most characters that a row keeps of a question."""


def version_text(plugins: Mapping[str, str]) -> str:
    """Return versions of plugins by name as one text."""
    return "; ".join(f"{name} {version}" for name, version in sorted(plugins.items()))


@dataclass(frozen=True)
class NamedMetric:
    """A metric and its name in rows and messages.

    :param version: of its code (:func:`version_text`); scores of different versions are not compared.
    """

    name: str
    metric: Metric
    version: str = ""

    def __post_init__(self) -> None:
        """Check the declaration of the columns.

        :raises GuidelensError: a column is not a Column. The message names the metric.
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
        """Return its record in ``config.json``: its name and the declarations of its columns."""
        return {"name": self.name, "columns": [asdict(column) for column in self.metric.columns]}


@dataclass
class Scores:
    """The scores of one picture."""

    values: dict[str, float] = field(default_factory=dict)
    scorers: dict[str, str] = field(default_factory=dict)
    """Name of each metric that succeeded, even if some of its columns do not apply -> version of its code."""
    errors: dict[str, str] = field(default_factory=dict)
    """Name of each metric that failed -> reason in one line."""
    questions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Name of each metric that asked questions -> the questions with their scores, :data:`QUESTIONS_KEPT` at most."""

    def add(self, item: NamedMetric, answer: QuestionedScores) -> None:
        """Add what a metric returned for the picture."""
        values, asked = answer
        self.values.update(values)
        self.scorers[item.name] = item.version
        if asked:
            self.questions[item.name] = [_as_json(question) for question in asked[:QUESTIONS_KEPT]]


def _as_json(question: QuestionScore) -> dict[str, Any]:
    """Return a question as JSON values, without empty fields."""
    values: dict[str, Any] = {
        "text": shortened(question.text, TEXT_KEPT),
        "score": float(f"{float(question.score):.6g}"),
    }
    if question.by:
        values["by"] = question.by
    if question.holds is not None:
        values["holds"] = bool(question.holds)
    return values


def check_columns(metrics: Iterable[Mapping[str, Any]]) -> None:
    """Raise UsageError if two metrics (:meth:`NamedMetric.as_dict`) have a column with the same name."""
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
    """Score pictures of equal size. Each metric gets all at once, and after an error one by one."""
    results = [Scores() for _ in pictures]
    if not pictures or not metrics:
        return results
    import torch

    from guidelens.pictures import to_tensor

    images = torch.stack([to_tensor(picture) for picture in pictures])
    for item in metrics:
        try:
            answers = questioned_scores_of(item.metric, images, prompts)
        except (Exception, SystemExit):  # an error in a plugin must not affect the scores of other pictures
            logger.debug("metric %s failed on a batch; trying one by one", item.name, exc_info=True)
            for i, prompt in enumerate(prompts):
                _score_one(item, images[i : i + 1], prompt, results[i])
        else:
            for result, answer in zip(results, answers, strict=True):
                result.add(item, answer)
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
        (answer,) = questioned_scores_of(item.metric, image, [prompt])
    except (Exception, SystemExit) as error:  # as above
        logger.debug("metric %s failed on %r", item.name, prompt.text, exc_info=True)
        result.errors[item.name] = one_line(error)
    else:
        result.add(item, answer)
