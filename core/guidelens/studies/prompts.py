"""The prompts of a study: texts, files and prompt sets, and their perturbed forms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from guidelens.contracts import Prompt
from guidelens.prompts import perturb as perturb_text
from guidelens.prompts import read_prompts, select
from guidelens.runs.config import as_prompts
from guidelens.sampling import NONE
from guidelens.text import STDIN

from .keys import PromptSource

logger = logging.getLogger(__name__)


class Perturbed(Protocol):
    """A perturbed text."""

    @property
    def text(self) -> str:
        """The text after perturbation."""
        ...

    @property
    def edits(self) -> int:
        """The number of edits from the clean text."""
        ...


Perturb = Callable[[str, str, int], Perturbed]
"""``perturb(text, spec, seed)``. Equal arguments give equal results. ``spec`` is spelled like a component."""


@dataclass(frozen=True)
class StudyPrompt:
    """A prompt as a condition uses it.

    :param clean: the prompt before perturbation; without perturbation ``prompt`` itself.
    :param perturbation: its spelling; ``none`` for the clean prompt.
    :param edits: the number of edits from ``clean`` to ``prompt``.
    """

    prompt: Prompt
    clean: Prompt
    perturbation: str = NONE
    edits: int = 0


def gather(
    sources: Iterable[PromptSource], base: Path, build_set: Callable[[str], Sequence[str | Prompt]]
) -> list[Prompt]:
    """Return the prompts of all sources, repetitions dropped.

    :param build_set: returns a prompt set by its spelling.
    :raises UsageError: for a source that cannot be read or has no prompts.
    """
    found: list[str | Prompt] = []
    for source in sources:
        if source.text:
            category = source.categories[0] if source.categories else ""
            found.append(Prompt(source.text, category, source.reference))
            continue
        if source.file:
            path = source.file if source.file == STDIN else base / Path(source.file).expanduser()
            listed: Sequence[str | Prompt] = read_prompts(path, source.column)
        else:
            listed = build_set(source.set)
        found += _kept(as_prompts(listed), source)
    return list(as_prompts(found))


def _kept(prompts: Sequence[Prompt], source: PromptSource) -> Sequence[Prompt]:
    name = source.set or source.file
    return select(prompts, categories=source.categories, limit=source.limit, seed=source.seed, name=name)


def perturbed(prompts: Sequence[Prompt], spec: str, seed: int, perturb: Perturb | None) -> list[StudyPrompt]:
    """Return the prompts under one perturbation, without those that it does not change.

    A perturbed prompt is scored against the target of its clean form.
    """
    if spec == NONE:
        return [StudyPrompt(prompt, prompt) for prompt in prompts]
    apply: Perturb = perturb or perturb_text
    result = []
    for clean in prompts:
        changed = apply(clean.text, spec, seed)
        if note := getattr(changed, "note", ""):
            logger.warning("%s", note)
        if changed.text != clean.text:
            prompt = replace(clean, text=changed.text, reference=clean.target)
            result.append(StudyPrompt(prompt, clean, spec, int(changed.edits)))
    return result
