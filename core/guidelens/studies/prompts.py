"""The prompts of a study: texts, files and prompt sets, and their perturbed forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.runs.config import as_prompts

from .keys import NONE, PromptSource

PROMPT_COLUMNS = ("prompt", "prompts", "caption", "text")
"""Names of the column that holds the prompts, in any case, where the study names none."""

PERTURBATIONS = "guidelens.prompts.perturb"
"""The module whose ``perturb`` is used."""


class Perturbed(Protocol):
    """A perturbed text."""

    @property
    def text(self) -> str:
        """The text after perturbation."""
        ...

    @property
    def edits(self) -> int:
        """How many edits it is away from the clean text."""
        ...


Perturb = Callable[[str, str, int], Perturbed]
"""``perturb(text, spec, seed)``: the same three give the same text; ``spec`` is spelled as components are."""


@dataclass(frozen=True)
class StudyPrompt:
    """A prompt as a condition uses it.

    :param clean: the prompt before perturbation; ``prompt`` itself where there is none.
    :param perturbation: its spelling; ``none`` for the clean prompt.
    :param edits: how far ``prompt`` is from ``clean``; 0 for the clean prompt.
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
    :raises UsageError: for a source that cannot be read or leaves nothing.
    """
    found: list[str | Prompt] = []
    for source in sources:
        if source.text:
            category = source.categories[0] if source.categories else ""
            found.append(Prompt(source.text, category, source.reference))
            continue
        if source.file:
            listed: Sequence[str | Prompt] = read_prompt_file(base / source.file, source.column)
        else:
            listed = build_set(source.set)
        found += _kept(as_prompts(listed), source)
    return list(as_prompts(found))


def _kept(prompts: Sequence[Prompt], source: PromptSource) -> Sequence[Prompt]:
    if source.categories:
        there = dict.fromkeys(prompt.category for prompt in prompts)
        for category in source.categories:
            if category not in there:
                named = ", ".join(repr(name) for name in there)
                raise UsageError(f"{source.set or source.file} has no category {category!r}; it has {named}")
        prompts = [prompt for prompt in prompts if prompt.category in source.categories]
    return prompts[: source.limit]


def read_prompt_file(path: Path, column: str = "") -> list[Prompt]:
    """Read prompts from a CSV or TSV file with a header, or from a text file, one a line.

    A column ``category`` is taken as such.

    :param column: the column with the prompts; empty: one of :data:`PROMPT_COLUMNS`.
    :raises UsageError: when the file cannot be read, or has no such column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the prompts {path}: {reason}") from None
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    if delimiter is None:
        return [Prompt(line.strip()) for line in text.splitlines() if line.strip()]
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    wanted = [column.lower()] if column else PROMPT_COLUMNS
    own = next((names[name] for name in wanted if name in names), None)
    if own is None:
        raise UsageError(f"{path} has no column {' or '.join(map(repr, wanted))}; it has {', '.join(names)}")
    category = names.get("category")
    return [
        Prompt(row[own].strip(), (row[category] or "").strip() if category else "")
        for row in rows
        if (row[own] or "").strip()
    ]


def find_perturb() -> Perturb:
    """Return the library's ``perturb``.

    :raises UsageError: when this installation has none.
    """
    try:
        perturb: Perturb = import_module(PERTURBATIONS).perturb
    except ModuleNotFoundError:
        raise UsageError(f"perturbations need the module {PERTURBATIONS}, which is not there") from None
    return perturb


def perturbed(prompts: Sequence[Prompt], spec: str, seed: int, perturb: Perturb | None) -> list[StudyPrompt]:
    """Return the prompts under one perturbation; those it leaves as they are are left out.

    A perturbed prompt is scored against what its clean form is scored against.
    """
    if spec == NONE:
        return [StudyPrompt(prompt, prompt) for prompt in prompts]
    apply = perturb or find_perturb()
    result = []
    for clean in prompts:
        changed = apply(clean.text, spec, seed)
        if changed.text != clean.text:
            prompt = Prompt(changed.text, clean.category, clean.target)
            result.append(StudyPrompt(prompt, clean, spec, int(changed.edits)))
    return result
