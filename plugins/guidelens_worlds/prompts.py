"""Prompt sets of a world, by category after DrawBench (Saharia et al. 2022).

Prompts are drawn with a seed. A hash of the text assigns each prompt to one of two splits: ``sweep`` (a quarter) for
choosing settings, ``test`` for scores.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guidelens.contracts import Prompt
from guidelens.errors import UsageError

from .description import Description
from .typos import can_be_misspelt, misspell

Split = Literal["test", "sweep"]

DrawPrompt = Callable[[random.Random], Prompt]
"""Draws one prompt. The caller fills in its category."""

_MISSES = 5000
"""A category is exhausted after this many draws in a row without a new prompt."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a world.

    :param demo: a few fixed prompts with their categories.
    :param categories: name -> function that draws one prompt.
    """

    demo: Sequence[Prompt]
    categories: Mapping[str, DrawPrompt]

    def draw(
        self, category: str = "demo", limit: int | None = None, seed: int = 0, split: Split = "test"
    ) -> list[Prompt]:
        """Draw ``limit`` different prompts of a category, or of each category for ``all``.

        :param limit: None: 20, and all of ``demo``.
        :param seed: the same seed draws the same prompts; a larger ``limit`` continues the list.
        :param split: ``test``, or ``sweep`` for prompts that never appear under ``test``.
        :raises UsageError: the category has fewer than ``limit`` prompts, or an option is out of range.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"limit must be at least 1, not {limit}")
        if category == "demo":
            if limit is not None and limit > len(self.demo):
                raise UsageError(
                    f"the category 'demo' has {len(self.demo)} prompts, not {limit}; choose a category for more"
                )
            return list(self.demo[:limit])
        limit = 20 if limit is None else limit
        if category == "all":
            return [prompt for name in self.categories for prompt in self._drawn(name, limit, seed, split)]
        if category not in self.categories:
            raise UsageError(f"unknown category {category!r}; choose demo, all, {', '.join(self.categories)}")
        return self._drawn(category, limit, seed, split)

    def _drawn(self, category: str, limit: int, seed: int, split: Split) -> list[Prompt]:
        rng = random.Random(f"{category}/{seed}")
        found: dict[str, Prompt] = {}
        misses = 0
        while misses < _MISSES:
            prompt = self.categories[category](rng)
            if split_of(prompt.target) == split and prompt.text not in found:
                found[prompt.text] = Prompt(prompt.text, category, prompt.reference)
                misses = 0
            misses += 1
            if len(found) == limit:
                return list(found.values())
        raise UsageError(
            f"the category {category!r} has only {len(found)} prompts in the split {split}, not {limit}"
        )


def split_of(text: str) -> Split:
    """Return the split of a prompt, by a hash of its text."""
    return "sweep" if hashlib.sha256(text.encode()).digest()[0] % 4 == 0 else "test"


def misspelt(clean: Sequence[DrawPrompt], read: Callable[[str], Description | None]) -> DrawPrompt:
    """Return a function that draws a clean prompt and misspells it. Metrics use the clean prompt.

    :param clean: functions that draw clean prompts.
    :param read: parses a caption. A text that it can read, for example "cat" for "car", is not a typo.
    """

    def draw(rng: random.Random) -> Prompt:
        text = ""
        while not can_be_misspelt(text):
            text = rng.choice(clean)(rng).text
        while True:
            typo = misspell(text, rng)
            if read(typo) is None:
                return Prompt(typo, reference=text)

    return draw
