"""A score of single pictures without a reference: how much nearer they are to "Good photo." than to "Bad photo.".

Wang, Chan and Loy (2023), *Exploring CLIP for Assessing the Look and Feel of Images* (CLIP-IQA), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Column, GuidanceModel, Prompt, TextBatch
from guidelens.errors import UsageError
from guidelens.guarding import encode, losses_of

from .judge import AT

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PAIRS = (("Good photo.", "Bad photo."), ("Natural photo.", "Synthetic photo."))
"""What pictures should be near to, and its opposite. The score is the mean over the pairs."""

SCALE = 100.0
"""Factor of the cosines in the softmax: CLIP's learned 1 / temperature."""

_PICTURES_AT_ONCE = 32


class Realism:
    """A :class:`guidelens.contracts.Metric`: mean over :data:`PAIRS` of softmax(scale * (cos_good, cos_bad))_good.

    The cosines are those of the guidance model's ``itc`` loss, -cos. Prompts do not matter.
    """

    def __init__(
        self, model: GuidanceModel, name: str, scale: float = SCALE, *, device: torch.device | None = None
    ) -> None:
        """Score by the cosines of ``model``.

        :param name: what the column calls the model.
        :param scale: 1 for a model whose ``itc`` divides by the learned temperature itself.
        :raises UsageError: the model has no ``itc``, or ``scale`` is not positive.
        """
        if "itc" not in model.objectives:
            known = ", ".join(sorted(model.objectives))
            raise UsageError(f"realism needs a model with itc, such as CLIP; {name} has {known}")
        if not scale > 0:
            raise UsageError(f"scale must be positive, not {scale}")
        self.model, self.scale = model, scale
        self.device = device if device is not None else getattr(model, "device", None)
        self._column = f"realism{AT}{name}"
        meaning = f"nearness to good and natural photographs against bad and synthetic ones, by {name}"
        self.columns = (Column(self._column, meaning, "realism", 0.0, 1.0),)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        import torch

        from guidelens.networks import frozen

        texts = [text for pair in PAIRS for text in pair]
        found: list[float] = []
        with torch.no_grad(), frozen(self.model):
            encoded = encode(self.model, texts)
            for part in images.split(_PICTURES_AT_ONCE):
                shown = part if self.device is None else part.to(self.device)
                losses = torch.stack([self._loss(shown, encoded, i) for i in range(len(texts))], dim=1)
                pairs = (-self.scale * losses).unflatten(1, (len(PAIRS), 2))
                found += pairs.softmax(dim=2)[:, :, 0].mean(dim=1).tolist()
        return [{self._column: value} for value in found]

    def _loss(self, images: Tensor, text: TextBatch, row: int) -> Tensor:
        paired = text.select([row] * len(images))
        return losses_of(self.model, images, paired, ["itc"], differentiable=False)["itc"].double()
