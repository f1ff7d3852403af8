"""Dual encoders (CLIP, SigLIP, SigLIP 2 and their kind): ITC."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .networks import Encoded, Network, at_least_float32, check_words
from .options import ObjectiveOptions

FIXED_LENGTH = ("siglip", "siglip2")
"""Families that were trained on texts padded to the full length, without an attention mask."""


class DualEncoder(Network):
    """``itc`` of the normalised features f of the picture and g of the prompt.

    It is -f.g / T or, with ``itc_mode="sigmoid"``, -log sigmoid(f.g / T + b) with the model's bias b: the loss of Zhai
    et al. (2023), *Sigmoid Loss for Language Image Pre-Training*, for a matching pair without negatives.
    """

    objectives = frozenset({"itc"})
    exact_constants = True

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap a model with ``get_text_features`` and ``get_image_features``.

        :raises UsageError: an option asks for a learned temperature or a bias that the model does not have.
        """
        super().__init__(model, processor, options, source)
        self.temperature, self.logit_bias = options.itc_constants(model, source)
        self.default_scales = {"itc": 300.0 * self.temperature}

    @property
    def context_length(self) -> int:
        """Number of tokens that the text tower reads."""
        config = self.model.config.text_config
        return int(min(config.max_position_embeddings, self.tokenizer.model_max_length))

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Return the normalised features of prompts, each cut to :attr:`context_length` tokens."""
        kind = self.model.config.model_type
        fixed = kind in FIXED_LENGTH
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length" if fixed else True,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        inputs = {"input_ids": tokens["input_ids"].to(self.device)}
        if not fixed:
            inputs["attention_mask"] = tokens["attention_mask"].to(self.device)
        features = _features(self.model.get_text_features(**inputs))
        notes = check_words(self.tokenizer, prompts, self.context_length)
        return Encoded({"text_features": F.normalize(at_least_float32(features), dim=-1)}, notes)

    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """See :meth:`Network.losses`."""
        features = self.image_features(images)
        logits = (features * text["text_features"].to(features)).sum(dim=-1) / self.temperature
        if self.logit_bias is None:
            return {"itc": -logits}
        return {"itc": -F.logsigmoid(logits + self.logit_bias)}

    def image_features(self, images: Tensor) -> Tensor:
        """Return the normalised features (B, D) of images (B, 3, H, W) in [-1, 1]."""
        features = _features(self.model.get_image_features(**self.pixels(images)))
        return F.normalize(at_least_float32(features), dim=-1)


def _features(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found
