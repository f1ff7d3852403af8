"""Options that define the losses of the objectives."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

from guidelens.errors import UsageError

CAPTION = "Describe this image in one sentence."
QUESTION = 'Does this picture show "{}"?'
ANSWER_YES_OR_NO = "Please answer yes or no."


@dataclass(frozen=True)
class ObjectiveOptions:
    """How the prompt is put to the model."""

    temperature: float | Literal["learned"] = 1.0
    """T of ``itc`` = -f.g / T. ``"learned"`` is the model's own (0.01 for CLIP)."""
    caption: str = CAPTION
    """Instruction that ``cap`` answers with the prompt. PaliGemma has its own, ``caption en``."""
    question: str = QUESTION
    """What ``vqa`` asks; ``{}`` is the prompt. A prompt that ends with a question mark is asked as it is."""
    yes: str = ""
    """The answer whose probability ``vqa`` takes. Empty: ``Yes``; for PaliGemma ``yes``."""
    no: str = ""
    """The other answer: ``vqa`` is then -log p(yes) / (p(yes) + p(no)). Empty: -log p(yes) among all tokens."""

    def __post_init__(self) -> None:
        """Check the options.

        :raises UsageError: a value is outside its range.
        """
        if self.temperature != "learned":
            number = isinstance(self.temperature, int | float)
            if not number or not math.isfinite(self.temperature) or self.temperature <= 0:
                raise UsageError(
                    f"temperature must be a positive number or 'learned', not {self.temperature!r}"
                )
        if self.question.count("{}") != 1:
            raise UsageError(f"question must contain {{}} once, for the prompt; got {self.question!r}")
        if not self.caption.strip():
            raise UsageError("caption must not be empty; leave it out for the default instruction")

    def identity(self) -> str:
        """Return the options as JSON, for a fingerprint."""
        return json.dumps(asdict(self), sort_keys=True)

    def asked(self, prompt: str) -> str:
        """Return the question about a prompt, with the request for a yes or a no."""
        text = prompt.strip()
        shown = text if text.endswith("?") else self.question.format(text)
        return f"{shown} {ANSWER_YES_OR_NO}"
