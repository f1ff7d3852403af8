"""Options that define the losses of the objectives."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from guidelens.errors import UsageError

ItcMode = Literal["cosine", "sigmoid"]

CAPTION = "Describe this image in one sentence."
QUESTION = 'Does this picture show "{}"?'
ANSWER_YES_OR_NO = "Please answer yes or no."


@dataclass(frozen=True)
class ObjectiveOptions:
    """How the prompt is put to the model."""

    itc_mode: ItcMode = "cosine"
    """``cosine``: -f.g / T. ``sigmoid``: -log sigmoid(f.g / T + b), SigLIP's training loss of a matching pair, for
    models with a bias b. The plugin ``open-clip`` has the same option."""
    temperature: float | Literal["learned"] | None = None
    """T; ``"learned"`` is the model's own (0.01 for CLIP, about 0.009 for SigLIP). None: 1 for ``cosine``,
    ``"learned"`` for ``sigmoid``."""
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
        if self.itc_mode not in get_args(ItcMode):
            raise UsageError(f"itc_mode must be {' or '.join(get_args(ItcMode))}, not {self.itc_mode!r}")
        if self.temperature is not None and self.temperature != "learned":
            number = isinstance(self.temperature, int | float)
            if not number or not math.isfinite(self.temperature) or self.temperature <= 0:
                raise UsageError(
                    f"temperature must be a positive number or 'learned', not {self.temperature!r}"
                )
        if self.question.count("{}") != 1:
            raise UsageError(f"question must contain {{}} once, for the prompt; got {self.question!r}")
        if not self.caption.strip():
            raise UsageError("caption must not be empty; leave it out for the default instruction")

    def itc_constants(self, model: Any, source: str) -> tuple[float, float | None]:
        """Return T and, for ``sigmoid``, the bias b of a model.

        Read them before the model is cast: bfloat16 would round them to three digits.

        :raises UsageError: the model has no ``logit_scale`` or no ``logit_bias``, and an option asks for it.
        """
        bias = getattr(model, "logit_bias", None)
        if self.itc_mode == "sigmoid" and bias is None:
            raise UsageError(
                f"itc=sigmoid needs a model with a logit bias, such as SigLIP; {source} has none"
            )
        used = float(bias) if bias is not None and self.itc_mode == "sigmoid" else None
        if self.temperature is not None and self.temperature != "learned":
            return float(self.temperature), used
        if self.temperature is None and used is None:
            return 1.0, None
        scale = getattr(model, "logit_scale", None)
        if scale is None:
            raise UsageError(f"{source} has no learned temperature; give temperature=NUMBER")
        return math.exp(-float(scale)), used

    def identity(self) -> str:
        """Return the options as JSON, for a fingerprint."""
        return json.dumps(asdict(self), sort_keys=True)

    def asked(self, prompt: str) -> str:
        """Return the question about a prompt, with the request for a yes or a no."""
        text = prompt.strip()
        shown = text if text.endswith("?") else self.question.format(text)
        return f"{shown} {ANSWER_YES_OR_NO}"
