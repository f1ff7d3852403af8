"""Conformance checks for prompt sets: a sequence of prompts with texts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from guidelens.contracts import Fact, Prompt, PromptSet

from .checklist import CheckList, Failed, Numbers
from .report import ConformanceReport

CHECKS: CheckList[PromptSet] = CheckList()


@CHECKS.add("sequence")
def _sequence(prompts: PromptSet) -> Numbers:
    """Not empty; its length, indexing and iteration agree, however often it is read."""
    if not len(prompts):
        raise Failed("it holds no prompt")
    listed, again, indexed = list(prompts), list(prompts), [prompts[k] for k in range(len(prompts))]
    if not len(listed) == len(again) == len(prompts):
        raise Failed(f"its length is {len(prompts)}; it gave {len(listed)} prompts, and then {len(again)}")
    for k, versions in enumerate(zip(listed, again, indexed, strict=True)):
        if not versions[0] == versions[1] == versions[2]:
            raise Failed(f"prompt {k} is now {versions[0]!r}, now {versions[1]!r}, by index {versions[2]!r}")
    return {"prompts": len(prompts)}


@CHECKS.add("prompts", needs=["sequence"])
def _prompts(prompts: PromptSet) -> Numbers:
    """Every entry is a Prompt with a text; category, reference, facts, foil and picture are valid where given."""
    for k, prompt in enumerate(prompts):
        entry: Any = prompt
        if not isinstance(entry, Prompt):
            raise Failed(f"entry {k} must be a guidelens.Prompt, got {entry!r}, a {type(entry).__name__}")
        if not isinstance(entry.text, str) or not entry.text.strip():
            raise Failed(f"prompt {k} has the text {entry.text!r}")
        if not isinstance(entry.category, str):
            raise Failed(f"the category of prompt {k} must be a text, got {entry.category!r}")
        if entry.reference is not None and not (isinstance(entry.reference, str) and entry.reference.strip()):
            raise Failed(f"prompt {k} has the reference {entry.reference!r}")
        if not isinstance(entry.facts, tuple) or not all(isinstance(fact, Fact) for fact in entry.facts):
            raise Failed(f"prompt {k} has the facts {entry.facts!r}; facts must be a tuple of guidelens.Fact")
        if any(i >= len(entry.facts) for fact in entry.facts for i in fact.needs):
            raise Failed(f"prompt {k} has a fact that needs a position beyond its {len(entry.facts)} facts")
        if entry.foil is not None and not (isinstance(entry.foil, str) and entry.foil.strip()):
            raise Failed(f"prompt {k} has the foil {entry.foil!r}")
        if not isinstance(entry.picture, str):
            raise Failed(f"the picture of prompt {k} must be a text, got {entry.picture!r}")
    return {"categories": len({prompt.category for prompt in prompts})}


def examine_prompt_set(prompts: PromptSet, *, skip: Collection[str] = ()) -> ConformanceReport:
    """Check a prompt set; see :func:`guidelens.testing.check_prompt_set`."""
    return ConformanceReport("prompts", type(prompts).__name__, CHECKS.run(prompts, skip))
