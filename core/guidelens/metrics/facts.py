"""Scores by yes/no questions: ``vqascore`` asks for the whole prompt, ``facts`` for each of its assertions."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidelens.contracts import Column, Fact, Prompt
from guidelens.prompts.english import parse_prompt

from .judge import AT
from .questions import YesNoModel

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("guidelens.facts")


class VqaScore:
    """A :class:`guidelens.contracts.Metric`: the probability of yes to the whole prompt (Lin et al. 2024).

    With ITM in place of VQA it is the probability of a match. Pictures are scored against a prompt's ``target``.
    """

    def __init__(self, model: YesNoModel) -> None:
        """Ask ``model``."""
        self.model = model
        self._column = f"vqascore{AT}{model.name}"
        meaning = f"probability that the picture shows the prompt, by {model.objective} of {model.name}"
        self.columns = (Column(self._column, meaning, "alignment", 0.0, 1.0),)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        answers = self.model.probabilities(images, [[prompt.target] for prompt in prompts])
        return [{self._column: probability} for (probability,) in answers]


@dataclass(frozen=True)
class Answer:
    """What a model said about one fact of a prompt.

    :param text: what was asked; empty: the model cannot be asked for it.
    :param probability: of yes.
    :param holds: whether it is at least the threshold, and the facts that this one needs hold.
    """

    fact: Fact
    text: str
    probability: float
    holds: bool


ROLES = {
    "alignment": ("alignment", "share of the prompt's facts that hold"),
    "recall": ("recall", "share of the named objects that appear"),
    "recall_main": ("recall_main", "whether the object named first appears"),
    "recall_rest": ("recall_rest", "share of the other named objects that appear"),
    "detail_main": ("detail_main", "share of what is said of the object named first that holds"),
    "binding": ("binding", "share of the attributes that their object has"),
    "binding_shown": ("binding_shown", "the same where object and attribute both appear"),
    "relation": ("relation", "share of the relations that hold"),
    "count": ("count", "share of the numbers that are right"),
}
"""Column without its ``fact_`` -> its role and meaning. All are in [0, 1], and higher is better."""


class FactsMetric:
    """Assertions of a prompt, asked one by one, in the manner of TIFA, DSG and GenEval 2.

    A fact holds if the probability of yes is at least the threshold and everything that it needs holds: a car that is
    not there is not red. Facts come with the prompt (``Prompt.facts``) or from
    :func:`guidelens.prompts.english.parse_prompt`. Columns that do not apply to a prompt are left out, and so are all
    for a prompt without facts.

    ``binding_shown`` also asks whether the attribute appears on anything ("something red").
    """

    def __init__(self, model: YesNoModel, threshold: float = 0.5) -> None:
        """Ask ``model``; a yes is a probability of at least ``threshold``."""
        self.model, self.threshold = model, threshold
        self.columns = tuple(
            Column(f"fact_{name}", f"{meaning}, by {model.objective} of {model.name}", role, 0.0, 1.0)
            for name, (role, meaning) in ROLES.items()
        )
        self._known: dict[str, tuple[Fact, ...]] = {}

    def facts(self, prompt: Prompt) -> tuple[Fact, ...]:
        """Return the facts that a prompt brings, or else those that the parser finds. Warns of what it does not."""
        if prompt.facts:
            return prompt.facts
        if prompt.target not in self._known:
            parsed = parse_prompt(prompt.target)
            if parsed.rest or not parsed.facts:
                what = "; ".join(parsed.rest) or "nothing to ask for"
                logger.warning("facts: not understood in %r: %s", prompt.target, what)
            self._known[prompt.target] = parsed.facts
        return self._known[prompt.target]

    def answers(self, images: Tensor, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Return the answer to every fact of the prompts, for each of images (B, 3, H, W) in [-1, 1]."""
        listed = [self.facts(prompt) for prompt in prompts]
        texts = [[self.model.asked(fact) for fact in facts] for facts in listed]
        asked = [[text for text in row if text] for row in texts]
        said = [iter(row) for row in self.model.probabilities(images, asked)]
        found = []
        for facts, row, probabilities in zip(listed, texts, said, strict=True):
            values = [next(probabilities) if text else float("nan") for text in row]
            holds = _holding(facts, values, self.threshold)
            found.append([Answer(*parts) for parts in zip(facts, row, values, holds, strict=True)])
        return found

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        answers = [[a for a in row if a.text] for row in self.answers(images, prompts)]
        anything = [
            list(dict.fromkeys(f"something {a.fact.value}" for a in row if a.fact.kind == "attribute"))
            for row in answers
        ]
        shown = self.model.probabilities(images, anything)
        return [
            {
                f"fact_{name}": value
                for name, value in self._scores(row, dict(zip(texts, said, strict=True))).items()
            }
            for row, texts, said in zip(answers, anything, shown, strict=True)
        ]

    def _scores(self, answers: Sequence[Answer], anything: Mapping[str, float]) -> dict[str, float]:
        if not answers:
            return {}
        of_kind = {kind: [a for a in answers if a.fact.kind == kind] for kind in ("object", "attribute")}
        objects, attributes = of_kind["object"], of_kind["attribute"]
        scores = {"alignment": _share(answers)}
        if objects:
            main = objects[0].fact.subject
            details = [a for a in answers if a.fact.subject == main and a.fact.kind in ("attribute", "count")]
            scores |= {"recall": _share(objects), "recall_main": _share(objects[:1])}
            scores |= {"recall_rest": _share(objects[1:])} if objects[1:] else {}
            scores |= {"detail_main": _share(details)} if details else {}
        there = {a.fact.subject for a in objects if a.holds}
        both = [
            a
            for a in attributes
            if a.fact.subject in there and anything[f"something {a.fact.value}"] >= self.threshold
        ]
        scores |= {"binding": _share(attributes)} if attributes else {}
        scores |= {"binding_shown": _share(both)} if both else {}
        for kind in ("relation", "count"):
            of = [a for a in answers if a.fact.kind == kind]
            scores |= {kind: _share(of)} if of else {}
        return scores


def _share(answers: Sequence[Answer]) -> float:
    return sum(answer.holds for answer in answers) / len(answers)


def _holding(facts: Sequence[Fact], probabilities: Sequence[float], threshold: float) -> list[bool]:
    """Return which facts hold, with everything that they need. A circle of needs does not hold."""

    def holds(position: int, above: tuple[int, ...] = ()) -> bool:
        if math.isnan(probabilities[position]):  # it could not be asked, and is not held against others
            return bool(above)
        if position in above or probabilities[position] < threshold:
            return False
        return all(holds(needed, (*above, position)) for needed in facts[position].needs)

    return [holds(position) for position in range(len(facts))]
