"""A guidance model as a judge: it scores finished pictures against their prompts by its objectives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Column, GuidanceModel, Prompt, QuestionedScores, QuestionScore
from guidelens.errors import UsageError
from guidelens.guarding import encode, losses_of
from guidelens.prompts.facts import statement

from .questions import FactReader

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT = "@"
"""Separates objective and model in the name of a column: ``itm@MODEL``."""

PROBABILITY = "p-"
"""Prefix of the column's name if its value is exp(-loss)."""

FACTS = "-facts"
"""Suffix of the objective in a column with the mean over the facts of a prompt: ``itm-facts@MODEL``."""

_PAIRS_AT_ONCE = 32


class Judge:
    """A :class:`guidelens.contracts.Metric`: minus the loss of each objective, so that higher is better.

    A column has the name ``OBJECTIVE@MODEL``. With ``probability`` the value is exp(-loss) and the name
    ``p-OBJECTIVE@MODEL``. It is in [0, 1] if the loss is a negative logarithm of a probability. For BLIP's ITM, -log
    p(match), it is p(match). For CAP it is the geometric mean of the tokens' probabilities. Pictures are scored
    against the ``target`` of their prompt. With ``facts`` they are also scored against each fact of it as a caption
    ("a red car"), and ``OBJECTIVE-facts@MODEL`` is the mean. A judge that is also the guide measures what guidance
    maximised: see :mod:`guidelens.metrics.matrix`.
    """

    def __init__(
        self,
        model: GuidanceModel,
        name: str,
        objectives: Collection[str] | None = None,
        *,
        probability: bool = False,
        facts: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Judge by ``objectives`` of ``model``, by default all.

        :param name: name of the model in the columns.
        :param device: device of the model; None: its attribute ``device``, else the CPU.
        :raises UsageError: the model lacks an objective, or reads noisy images.
        """
        if getattr(model, "reads", "x0") != "x0":
            raise UsageError(f"{name} reads noisy images; it cannot judge finished ones")
        known = sorted(model.objectives)
        unknown = [objective for objective in objectives or () if objective not in model.objectives]
        if unknown:
            raise UsageError(f"{name} has no objective {unknown[0]!r}; it has {', '.join(known)}")
        self.model, self.probability = model, probability
        self.device = device if device is not None else getattr(model, "device", None)
        self.objectives = tuple(dict.fromkeys(objectives)) if objectives else tuple(known)
        self._facts = FactReader() if facts else None
        prefix = PROBABILITY if probability else ""
        score = "exp(-loss)" if probability else "minus the loss"
        kinds = {"": score, FACTS: f"mean over the prompt's facts of {score}"} if facts else {"": score}
        self.columns = tuple(
            Column(
                f"{prefix}{objective}{suffix}{AT}{name}",
                f"{meaning} by {objective} of {name}",
                "judgement",
                low=0.0 if probability else None,
            )
            for suffix, meaning in kinds.items()
            for objective in self.objectives
        )

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        return [scores for scores, _ in self.score_questions(images, prompts)]

    def score_questions(self, images: Tensor, prompts: Sequence[Prompt]) -> list[QuestionedScores]:
        """Return the scores and, with ``facts``, the score of each fact by each objective."""
        asked = [[prompt.target, *self._statements(prompt)] for prompt in prompts]
        values = iter(
            self._values(images, [(row, text) for row, texts in enumerate(asked) for text in texts])
        )
        return [self._scored(texts[1:], [next(values) for _ in texts]) for texts in asked]

    def _statements(self, prompt: Prompt) -> list[str]:
        """Return the facts of a prompt as captions, without those that are only a question."""
        if self._facts is None:
            return []
        facts = self._facts(prompt)
        return list(dict.fromkeys(statement(fact) for fact in facts if fact.kind != "other" and fact.subject))

    def _scored(self, statements: Sequence[str], values: Sequence[Sequence[float]]) -> QuestionedScores:
        """Return the columns and questions of a picture.

        :param values: for the whole prompt, then for each statement: the score by each objective.
        """
        whole, *rest = values
        means = [sum(column) / len(column) for column in zip(*rest, strict=True)]
        names = [column.name for column in self.columns]
        questions = [
            QuestionScore(text, value, objective)
            for text, row in zip(statements, rest, strict=True)
            for objective, value in zip(self.objectives, row, strict=True)
        ]
        return dict(zip(names, [*whole, *means], strict=False)), questions

    def _values(self, images: Tensor, pairs: Sequence[tuple[int, str]]) -> list[list[float]]:
        """Return the score of each pair (row of the images, text) by each objective."""
        import torch

        from guidelens.networks import frozen

        place = {text: i for i, text in enumerate(dict.fromkeys(text for _, text in pairs))}
        found: list[list[float]] = []
        with torch.no_grad(), frozen(self.model):
            encoded = encode(self.model, list(place))
            for start in range(0, len(pairs), _PAIRS_AT_ONCE):
                part = pairs[start : start + _PAIRS_AT_ONCE]
                shown = images[[row for row, _ in part]]
                shown = shown if self.device is None else shown.to(self.device)
                paired = encoded.select([place[text] for _, text in part])
                losses = losses_of(self.model, shown, paired, self.objectives, differentiable=False)
                values = torch.stack([-losses[name].cpu().double() for name in self.objectives], dim=1)
                found += (values.exp() if self.probability else values).tolist()
        return found
