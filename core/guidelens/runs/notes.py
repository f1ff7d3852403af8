"""Notes for the reader of a run, about prompts (from the text encoder) or about the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from guidelens.contracts import GuidanceModel
from guidelens.guarding import encode


class Note(NamedTuple):
    """A note and its prompt. The prompt of a note about the settings is empty."""

    prompt: str
    text: str

    def __str__(self) -> str:
        return f"{self.prompt!r}: {self.text}" if self.prompt else self.text


def prompt_notes(guidance: GuidanceModel, prompts: Sequence[str]) -> list[Note]:
    """Return the notes of a guidance model's text encoder about each distinct prompt."""
    distinct = list(dict.fromkeys(prompts))
    notes = encode(guidance, distinct).notes
    return [Note(prompt, line) for prompt, lines in zip(distinct, notes, strict=False) for line in lines]
