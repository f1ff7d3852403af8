"""BLIP of transformers: retrieval (ITC and ITM) and captioning (CAP). See Li et al. (2022), *BLIP*, section 3.2.

The classes of transformers leave three things to their caller. This module does them: text for ITM starts with [ENC]
instead of [CLS], text for CAP starts with [DEC], and CAP is averaged over each sample's own tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from guidelens.errors import GuidelensError
from torch import Tensor

from .networks import Encoded, Network, at_least_float32, check_words
from .options import ObjectiveOptions


class BlipNetwork(Network):
    """Common base of retrieval and captioning: the tokens and the image encoder."""

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap a model of the BLIP family of transformers."""
        super().__init__(model, processor, options, source)
        self.text_config = model.config.text_config

    def tokens(self, prompts: Sequence[str], first: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the ids (N, L) and mask of prompts, the first token replaced by ``first``."""
        limit = min(self.text_config.max_position_embeddings, self.tokenizer.model_max_length)
        found = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=int(limit), return_tensors="pt"
        )
        ids = found["input_ids"].clone()
        if first is not None:
            ids[:, 0] = first
        return ids.to(self.device), found["attention_mask"].to(self.device)

    def notes(self, prompts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return notes about words that the model does not read."""
        limit = min(self.text_config.max_position_embeddings, self.tokenizer.model_max_length)
        return check_words(self.tokenizer, prompts, int(limit))

    def patches(self, images: Tensor) -> Tensor:
        """Return the tokens (B, P, W) of images (B, 3, H, W) in [-1, 1]."""
        seen: Tensor = self.model.vision_model(**self.pixels(images)).last_hidden_state
        return seen


class BlipRetrieval(BlipNetwork):
    """``BlipForImageTextRetrieval``: ``itc`` = -f.g / T and ``itm`` = -log p(match)."""

    objectives = frozenset({"itc", "itm"})

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap the model.

        :raises GuidelensError: the vocabulary has no [ENC], or the model lacks what an option of ``itc`` asks for.
        """
        super().__init__(model, processor, options, source)
        self.temperature, _ = options.itc_constants(model, source)
        self.default_scales = {"itc": 300.0 * self.temperature, "itm": 60.0}
        self.enc = self._enc()

    def _enc(self) -> int:
        """Return the id of [ENC]. Published vocabularies end with [DEC], [ENC]; tokenizers may not name them."""
        named = self.tokenizer.get_vocab().get("[ENC]")
        last = int(self.text_config.vocab_size) - 1
        if named is None and self.text_config.bos_token_id != last - 1:
            raise GuidelensError(f"{self.source}: its vocabulary has no [ENC], which itm needs")
        return last if named is None else int(named)

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Return the features for ``itc`` and the tokens for ``itm``."""
        notes = self.notes(prompts)
        ids, mask = self.tokens(prompts)
        states = self.model.text_encoder(ids, attention_mask=mask).last_hidden_state
        features = F.normalize(at_least_float32(self.model.text_proj(states[:, 0])), dim=-1)
        itm_ids = ids.clone()
        itm_ids[:, 0] = self.enc
        return Encoded({"text_features": features, "itm_ids": itm_ids, "mask": mask}, notes)

    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """See :meth:`Network.losses`."""
        patches = self.patches(images)
        losses = {}
        if "itc" in objectives:
            features = F.normalize(at_least_float32(self.model.vision_proj(patches[:, 0])), dim=-1)
            losses["itc"] = -(features * text["text_features"].to(features)).sum(dim=-1) / self.temperature
        if "itm" in objectives:
            states = self.model.text_encoder(
                text["itm_ids"].to(patches.device),
                attention_mask=text["mask"].to(patches.device),
                encoder_hidden_states=patches,
                encoder_attention_mask=_all_seen(patches),
            ).last_hidden_state
            logits = at_least_float32(self.model.itm_head(states[:, 0]))
            losses["itm"] = -logits.log_softmax(dim=-1)[:, 1]
        return losses

    def image_features(self, images: Tensor) -> Tensor:
        """Return the normalised features (B, D) of images (B, 3, H, W) in [-1, 1]."""
        return F.normalize(at_least_float32(self.model.vision_proj(self.patches(images)[:, 0])), dim=-1)


class BlipCaptioning(BlipNetwork):
    """``BlipForConditionalGeneration``: ``cap``, the mean over the sample's own tokens, [SEP] included."""

    objectives = frozenset({"cap"})
    default_scales: Mapping[str, float] = {"cap": 60.0}

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Return the tokens, led by [DEC]."""
        notes = self.notes(prompts)
        ids, mask = self.tokens(prompts, int(self.text_config.bos_token_id))
        return Encoded({"cap_ids": ids, "mask": mask}, notes)

    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """See :meth:`Network.losses`."""
        patches = self.patches(images)
        ids, mask = (text[name].to(patches.device) for name in ("cap_ids", "mask"))
        logits = self.model.text_decoder(
            ids,
            attention_mask=mask,
            encoder_hidden_states=patches,
            encoder_attention_mask=_all_seen(patches),
        ).logits
        per_token = F.cross_entropy(
            at_least_float32(logits[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none"
        )
        counted = mask[:, 1:].to(per_token)
        return {"cap": (per_token * counted).sum(dim=1) / counted.sum(dim=1)}


def _all_seen(patches: Tensor) -> Tensor:
    return torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device)
