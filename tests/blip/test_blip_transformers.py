"""A second oracle, on current Pythons: the Blip classes of transformers, written apart from LAVIS's.

Where they differ by default they are set to BLIP: the vision transformer's epsilon is 1e-6, tokens are led by
[ENC] or [DEC] here, and shared weights are loaded under each of their names.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from guidelens_blip import BlipGuidance
from torch.testing import assert_close

transformers = pytest.importorskip("transformers")
if transformers.__version__.startswith("4."):
    pytest.skip("LAVIS keeps transformers at a release with other Blip classes", allow_module_level=True)
OBJECTIVES = ("itc", "itm", "cap")
RENAMED = (
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj", "vision_model.embeddings.patch_embedding"),
    ("visual_encoder.blocks", "vision_model.encoder.layers"),
    ("visual_encoder.norm", "vision_model.post_layernorm"),
    (".attn.qkv", ".self_attn.qkv"),
    (".attn.proj", ".self_attn.projection"),
    (".norm1", ".layer_norm1"),
    (".norm2", ".layer_norm2"),
)


def renamed(name: str) -> str:
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return name


class Oracle:
    """transformers' retrieval and captioning models with the weights of ours."""

    def __init__(self, guidance: BlipGuidance) -> None:
        config, wordpiece = guidance.config, guidance.model.wordpiece
        self.guidance = guidance
        sizes = transformers.BlipConfig(
            text_config={
                "vocab_size": len(wordpiece),
                "hidden_size": config.hidden_size,
                "encoder_hidden_size": config.vision_width,
                "intermediate_size": config.intermediate_size,
                "num_hidden_layers": config.text_layers,
                "num_attention_heads": config.text_heads,
                "max_position_embeddings": config.max_positions,
                "pad_token_id": wordpiece.pad,
                "sep_token_id": wordpiece.sep,
                "bos_token_id": wordpiece.dec,
            },
            vision_config={
                "hidden_size": config.vision_width,
                "intermediate_size": 4 * config.vision_width,
                "num_hidden_layers": config.vision_depth,
                "num_attention_heads": config.vision_heads,
                "image_size": config.image_size,
                "patch_size": config.patch_size,
                "layer_norm_eps": 1e-6,
            },
            image_text_hidden_size=config.embed_dim,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.retrieval = transformers.BlipForImageTextRetrieval(sizes).eval()
            self.captioning = transformers.BlipForConditionalGeneration(sizes).eval()
        state = {renamed(name): tensor for name, tensor in guidance.model.state_dict().items()}
        for network in (self.retrieval, self.captioning):
            own = set(network.state_dict())
            network.load_state_dict({name: tensor for name, tensor in state.items() if name in own})
            network.to(guidance.dtype)

    def losses(
        self, images: torch.Tensor, tensors: dict[str, torch.Tensor], itc_ids: Any
    ) -> dict[str, torch.Tensor]:
        """:param itc_ids: token ids led by [CLS]."""
        mean, std = (
            torch.tensor(values, dtype=images.dtype)[:, None, None]
            for values in (self.guidance.config.image_mean, self.guidance.config.image_std)
        )
        pixels, mask = ((images + 1) / 2 - mean) / std, tensors["mask"]
        patches = self.retrieval.vision_model(pixels).last_hidden_state
        text = self.retrieval.text_encoder(itc_ids, attention_mask=mask).last_hidden_state
        f = F.normalize(self.retrieval.vision_proj(patches[:, 0]), dim=-1)
        g = F.normalize(self.retrieval.text_proj(text[:, 0]), dim=-1)
        seen = torch.ones(patches.shape[:2], dtype=torch.long)
        matched = self.retrieval.text_encoder(
            tensors["itm_ids"],
            attention_mask=mask,
            encoder_hidden_states=patches,
            encoder_attention_mask=seen,
        ).last_hidden_state
        match = self.retrieval.itm_head(matched[:, 0]).log_softmax(dim=-1)[:, 1]
        ids = tensors["cap_ids"]
        logits = self.captioning.text_decoder(
            ids,
            attention_mask=mask,
            encoder_hidden_states=self.captioning.vision_model(pixels).last_hidden_state,
        ).logits[:, :-1]
        chosen = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        counted = mask[:, 1:].to(chosen)
        return {"itc": -(f * g).sum(-1), "itm": -match, "cap": -(chosen * counted).sum(1) / counted.sum(1)}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
def test_losses_and_image_gradients(
    model, config, images, prompts, dtype: torch.dtype, tolerance: float
) -> None:
    guidance = BlipGuidance(model, config).to(dtype=dtype)
    oracle, text = Oracle(guidance), guidance.encode_text(prompts)
    itc_ids = guidance._tokenize(prompts).itc
    results = []
    for who in (guidance, oracle):
        point = images.to(dtype).requires_grad_()
        losses = (
            who.losses(point, text, OBJECTIVES)
            if who is guidance
            else oracle.losses(point, dict(text.tensors), itc_ids)
        )
        gradients = {
            name: torch.autograd.grad(losses[name].sum(), point, retain_graph=True)[0] for name in OBJECTIVES
        }
        results.append(({name: loss.detach() for name, loss in losses.items()}, gradients))
    assert_close(results[0], results[1], rtol=tolerance, atol=tolerance)
