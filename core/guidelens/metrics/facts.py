"""Scores by yes/no questions: ``vqascore`` asks for the whole prompt, ``facts`` for each of its assertions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from guidelens.contracts import Column, Fact, FactKind, Prompt, QuestionedScores, QuestionScore

from .judge import AT
from .questions import FactReader, YesNoModel

if TYPE_CHECKING:
    from torch import Tensor


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
        return [scores for scores, _ in self.score_questions(images, prompts)]

    def score_questions(self, images: Tensor, prompts: Sequence[Prompt]) -> list[QuestionedScores]:
        """Return the scores, and the one question behind each: the prompt."""
        answers = self.model.probabilities(images, [[prompt.target] for prompt in prompts])
        return [
            ({self._column: value}, [QuestionScore(prompt.target, value, self.model.objective)])
            for prompt, (value,) in zip(prompts, answers, strict=True)
        ]


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
    "mean": ("", "mean probability of the prompt's facts, each by itself"),
    "recall": ("recall", "share of the named objects that appear"),
    "recall_main": ("recall_main", "whether the object named first appears"),
    "recall_rest": ("recall_rest", "share of the other named objects that appear"),
    "detail_main": ("detail_main", "share of what is said of the object named first that holds"),
    "binding": ("binding", "share of the attributes that their object has"),
    "binding_shown": ("binding_shown", "the same where object and attribute both appear"),
    "relation": ("relation", "share of the relations that hold"),
    "count": ("count", "share of the numbers that are right"),
}
"""Name of a score of facts -> its role and meaning. All are in [0, 1], and higher is better."""


def fact_columns(prefix: str, suffix: str, how: str) -> tuple[Column, ...]:
    """Return the columns ``PREFIX_NAME SUFFIX`` of a metric that checks facts.

    :param how: who says so, the end of each column's meaning.
    """
    return tuple(
        Column(f"{prefix}_{name}{suffix}", f"{meaning}, {how}", role, 0.0, 1.0)
        for name, (role, meaning) in ROLES.items()
    )


def check_facts(
    facts: Sequence[Fact], texts: Sequence[str], probabilities: Sequence[float], threshold: float
) -> list[Answer]:
    """Return which facts hold: their probability is at least the threshold, and what they need holds as well.

    :param texts: what was asked for each fact; empty: it could not be asked. It is not held against other facts.
    :param probabilities: of yes; any number where nothing was asked.
    """

    def holds(position: int, above: tuple[int, ...] = ()) -> bool:
        if not texts[position]:
            return bool(above)
        if position in above or probabilities[position] < threshold:  # needs that run in a circle do not hold
            return False
        return all(holds(needed, (*above, position)) for needed in facts[position].needs)

    positions = range(len(facts))
    return [Answer(facts[i], texts[i], probabilities[i], holds(i)) for i in positions]


def fact_scores(answers: Sequence[Answer], shown: Collection[str]) -> dict[str, float]:
    """Return the scores of one picture by the names in :data:`ROLES`. Those that do not apply are left out.

    :param answers: facts that could not be asked do not count.
    :param shown: the attributes that appear anywhere in the picture.
    """
    asked = [answer for answer in answers if answer.text]
    if not asked:
        return {}
    of_kind = {kind: [a for a in asked if a.fact.kind == kind] for kind in get_args(FactKind)}
    objects, attributes = of_kind["object"], of_kind["attribute"]
    there = {answer.fact.subject for answer in objects if answer.holds}
    main = objects[0].fact.subject if objects else ""
    groups = {
        "alignment": asked,
        "recall": objects,
        "recall_main": objects[:1],
        "recall_rest": objects[1:],
        "detail_main": [a for a in attributes + of_kind["count"] if main and a.fact.subject == main],
        "binding": attributes,
        "binding_shown": [a for a in attributes if a.fact.subject in there and a.fact.value in shown],
        "relation": of_kind["relation"],
        "count": of_kind["count"],
    }
    shares = {name: sum(a.holds for a in group) / len(group) for name, group in groups.items() if group}
    return {"mean": sum(answer.probability for answer in asked) / len(asked), **shares}


class FactsMetric:
    """Assertions of a prompt, asked one by one, in the manner of TIFA, DSG and GenEval 2.

    A fact holds if the probability of yes is at least the threshold and everything that it needs holds: a car that is
    not there is not red. Columns that do not apply to a prompt are left out, and so are all for a prompt without
    facts. ``mean`` is the mean of the probabilities, which needs no threshold: Soft-TIFA of Kamath et al. (2025),
    *GenEval 2*. ``binding_shown`` also asks whether the attribute appears on anything ("something red").
    """

    def __init__(self, model: YesNoModel, threshold: float = 0.5) -> None:
        """Ask ``model``; a yes is a probability of at least ``threshold``."""
        self.model, self.threshold, self.facts = model, threshold, FactReader()
        self.columns = fact_columns("fact", f"{AT}{model.name}", f"by {model.objective} of {model.name}")

    def answers(self, images: Tensor, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Return the answer to every fact of the prompts, for each of images (B, 3, H, W) in [-1, 1]."""
        listed = [self.facts(prompt) for prompt in prompts]
        texts = [[self.model.asked(fact) for fact in facts] for facts in listed]
        said = self._said(images, texts)
        return [
            check_facts(facts, row, [known.get(text, 0.0) for text in row], self.threshold)
            for facts, row, known in zip(listed, texts, said, strict=True)
        ]

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        return [scores for scores, _ in self.score_questions(images, prompts)]

    def score_questions(self, images: Tensor, prompts: Sequence[Prompt]) -> list[QuestionedScores]:
        """Return the scores, and the question behind each fact with its probability of a yes."""
        answers = self.answers(images, prompts)
        values = [[a.fact.value for a in row if a.fact.kind == "attribute"] for row in answers]
        said = self._said(images, [[f"something {value}" for value in row] for row in values])
        found: list[QuestionedScores] = []
        for row, listed, known in zip(answers, values, said, strict=True):
            shown = {value for value in listed if known[f"something {value}"] >= self.threshold}
            scores = fact_scores(row, shown)
            named = {f"fact_{name}{AT}{self.model.name}": value for name, value in scores.items()}
            by = self.model.objective
            asked = [QuestionScore(a.text, a.probability, by, a.holds) for a in row if a.text]
            found.append((named, asked))
        return found

    def _said(self, images: Tensor, texts: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Return the probability of yes by text, for each picture."""
        asked = [list(dict.fromkeys(filter(None, row))) for row in texts]
        said = self.model.probabilities(images, asked)
        return [dict(zip(row, values, strict=True)) for row, values in zip(asked, said, strict=True)]
