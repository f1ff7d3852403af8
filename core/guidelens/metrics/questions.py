"""Questions about pictures: the facts of a prompt, and a model that answers yes or no (VQA, or ITM in its place)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Fact, GuidanceModel, Prompt
from guidelens.errors import UsageError
from guidelens.guarding import encode, losses_of
from guidelens.prompts.english import parse_prompt
from guidelens.prompts.facts import statement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = logging.getLogger("guidelens.facts")

ANSWERING = ("vqa", "itm")
"""Objectives that are -log of the probability of a yes, the preferred one first."""

_PAIRS_AT_ONCE = 32


class FactReader:
    """The facts of prompts: their own, or those that :func:`guidelens.prompts.english.parse_prompt` finds."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._parsed: dict[str, tuple[Fact, ...]] = {}

    def __call__(self, prompt: Prompt) -> tuple[Fact, ...]:
        """Return the facts of a prompt. What the parser does not understand is a warning, once for each prompt."""
        if prompt.facts:
            return prompt.facts
        if prompt.target not in self._parsed:
            parsed = parse_prompt(prompt.target)
            if parsed.rest or not parsed.facts:
                what = "; ".join(parsed.rest) or "nothing to ask for"
                logger.warning("facts: not understood in %r: %s", prompt.target, what)
            self._parsed[prompt.target] = parsed.facts
        return self._parsed[prompt.target]


class YesNoModel:
    """The probability that a model says yes to statements about pictures."""

    def __init__(
        self, model: GuidanceModel, name: str, objective: str = "", *, device: torch.device | None = None
    ) -> None:
        """Ask ``model`` by ``objective``; empty: the first of :data:`ANSWERING` that it has.

        :param name: the model, as error messages name it.
        :raises UsageError: the model does not have the objective.
        """
        known = ", ".join(sorted(model.objectives))
        wanted = [objective] if objective else [name for name in ANSWERING if name in model.objectives]
        if not wanted or wanted[0] not in model.objectives:
            raise UsageError(
                f"{name} cannot answer yes or no: it needs {objective or ' or '.join(ANSWERING)}, and it has {known}"
            )
        if wanted[0] not in ANSWERING:
            raise UsageError(
                f"the objective {wanted[0]} of {name} is not a probability of yes; choose {' or '.join(ANSWERING)}"
            )
        self.model, self.name, self.objective = model, name, wanted[0]
        self.device = device if device is not None else getattr(model, "device", None)

    def asked(self, fact: Fact) -> str:
        """Return how a fact is put to the model: its own question where the model takes questions, or a caption.

        Empty: the fact has only a question, and the model matches captions.
        """
        if self.objective == "vqa" and fact.question:
            return fact.question
        return statement(fact) if fact.kind != "other" and fact.subject else ""

    def probabilities(self, images: Tensor, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the probability of yes for each text of each image (B, 3, H, W) in [-1, 1]."""
        import torch

        from guidelens.networks import frozen

        pairs = [(row, text) for row, listed in enumerate(texts) for text in listed]
        distinct = list(dict.fromkeys(text for _, text in pairs))
        found: list[float] = []
        if pairs:
            place = {text: position for position, text in enumerate(distinct)}
            with torch.no_grad(), frozen(self.model):
                encoded = encode(self.model, distinct)
                for start in range(0, len(pairs), _PAIRS_AT_ONCE):
                    part = pairs[start : start + _PAIRS_AT_ONCE]
                    shown = images[[row for row, _ in part]]
                    shown = shown if self.device is None else shown.to(self.device)
                    chosen = encoded.select([place[text] for _, text in part])
                    losses = losses_of(self.model, shown, chosen, [self.objective], differentiable=False)
                    found += losses[self.objective].double().neg().exp().clamp(max=1.0).cpu().tolist()
        answers = iter(found)
        return [[next(answers) for _ in listed] for listed in texts]
