"""A quadratic objective with a closed-form minimiser."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from guidelens.contracts import TextBatch
from torch import Tensor


class Target:
    """L = c |image - a|^2 / 2."""

    fingerprint = "target"
    objectives = frozenset({"near"})

    def __init__(self, a: float, c: float) -> None:
        self.a, self.c = a, c

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        return TextBatch(tuple(prompts), {"row": torch.zeros(len(prompts), 1)})

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        return {"near": self.c * (images - self.a).square().flatten(1).sum(dim=1) / 2}

    def alone(self) -> Alone:
        return Alone()


class Alone:
    """The schedule of the one objective."""

    def weights(self, progress: float) -> Mapping[str, float]:
        return {"near": 1.0}
