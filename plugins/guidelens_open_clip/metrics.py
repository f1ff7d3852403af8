"""CLIP score: how well a picture fits its prompt, according to a model of open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Column, Prompt

from .guidance import OpenClipGuidance

if TYPE_CHECKING:
    from torch import Tensor

_PICTURES_AT_ONCE = 32


class ClipScore:
    """A :class:`guidelens.contracts.Metric`: 100 max(cos(f, g), 0), after Hessel et al. (2021), *CLIPScore*.

    The paper's factor is 2.5 instead of 100. Pictures are scored against a prompt's ``target``.
    """

    columns = (
        Column("clip_score", "100 x cosine of picture and prompt, 0 where negative", "alignment", 0.0, 100.0),
    )

    def __init__(self, model: OpenClipGuidance) -> None:
        """Score by the features of ``model``. Its templates are used, its objective options are not."""
        self.model = model

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]. Each score is in [0, 100]; higher is better."""
        targets = [prompt.target for prompt in prompts]
        distinct = list(dict.fromkeys(targets))
        text = self.model.encode_text(distinct)
        scores: list[dict[str, float]] = []
        for start in range(0, len(images), _PICTURES_AT_ONCE):
            cosines = self.model.similarity(images[start : start + _PICTURES_AT_ONCE], text)
            for row, cosine in enumerate(cosines.tolist(), start):
                scores.append({"clip_score": 100 * max(cosine[distinct.index(targets[row])], 0.0)})
        return scores
