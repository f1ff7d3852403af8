"""BLIP-2 of transformers, ``Blip2ForImageTextRetrieval``: ITC and ITM. See Li et al. (2023), *BLIP-2*, section 3.1."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .networks import Encoded, Network, at_least_float32, check_words
from .options import ObjectiveOptions


class Blip2Retrieval(Network):
    """ITC and ITM of the Q-Former's queries q = 1..Q.

    ``itc`` = -max_q f_q.g / T, of the normalised features f_q of the queries and g of the prompt.
    ``itm`` = -log p(match), of the logits averaged over the queries, which see the prompt.
    """

    objectives = frozenset({"itc", "itm"})

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap the model.

        :raises UsageError: an option asks for a learned temperature or a bias, which the model does not have.
        """
        super().__init__(model, processor, options, source)
        self.temperature, _ = options.itc_constants(model, source)
        self.default_scales = {"itc": 300.0 * self.temperature, "itm": 60.0}

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Return the features for ``itc`` and the tokens for ``itm``."""
        limit = int(
            min(self.model.config.qformer_config.max_position_embeddings, self.tokenizer.model_max_length)
        )
        notes = check_words(self.tokenizer, prompts, limit)
        found = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
        ids, mask = (found[name].to(self.device) for name in ("input_ids", "attention_mask"))
        states = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=ids), query_length=0, attention_mask=mask
        ).last_hidden_state
        features = F.normalize(at_least_float32(self.model.text_projection(states[:, 0])), dim=-1)
        return Encoded({"text_features": features, "ids": ids, "mask": mask}, notes)

    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """See :meth:`Network.losses`."""
        patches = self.model.vision_model(**self.pixels(images)).last_hidden_state
        losses = {}
        if "itc" in objectives:
            features = self._query_features(patches)
            cosines = (features * text["text_features"].to(features)[:, None]).sum(dim=-1)
            losses["itc"] = -cosines.amax(dim=1) / self.temperature
        if "itm" in objectives:
            losses["itm"] = self._itm(patches, text)
        return losses

    def _queries(self, patches: Tensor) -> Tensor:
        queries: Tensor = self.model.query_tokens.expand(len(patches), -1, -1)
        return queries

    def _query_features(self, patches: Tensor) -> Tensor:
        states = self.model.qformer(
            query_embeds=self._queries(patches),
            encoder_hidden_states=patches,
            encoder_attention_mask=_ones(patches),
        ).last_hidden_state
        return F.normalize(at_least_float32(self.model.vision_projection(states)), dim=-1)

    def _itm(self, patches: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        queries = self._queries(patches)
        mask = torch.cat([_ones(queries), text["mask"].to(patches.device)], dim=1)
        states = self.model.qformer(
            query_embeds=self.model.embeddings(
                input_ids=text["ids"].to(patches.device), query_embeds=queries
            ),
            query_length=queries.shape[1],
            attention_mask=mask,
            encoder_hidden_states=patches,
            encoder_attention_mask=_ones(patches),
        ).last_hidden_state
        logits = at_least_float32(self.model.itm_head(states[:, : queries.shape[1]])).mean(dim=1)
        return -logits.log_softmax(dim=-1)[:, 1]


def _ones(states: Tensor) -> Tensor:
    return torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
