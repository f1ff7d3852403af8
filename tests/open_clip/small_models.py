"""Models of open_clip small enough for tests, with weights large enough that everything they see matters."""

from __future__ import annotations

import json
import warnings
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports warns of its own age
    import open_clip

Config = dict[str, Any]

CONFIGS: dict[str, Config] = {
    "clip": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
    },
    "siglip": {
        "embed_dim": 16,
        "init_logit_bias": -2.0,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": 10,
            "vocab_size": 40,
            "width": 24,
            "heads": 2,
            "layers": 2,
            "hf_tokenizer_name": "nowhere/siglip-tokenizer",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
    "coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 6,
            "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 12,
            "vocab_size": 49408,
            "width": 24,
            "heads": 2,
            "layers": 2,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {
            "context_length": 12,
            "vocab_size": 49408,
            "width": 24,
            "heads": 2,
            "layers": 2,
            "attn_pooler_heads": 2,
        },
    },
}

TIMM_CONFIGS: dict[str, Config] = {
    "siglip2": {
        **CONFIGS["siglip"],
        "embed_dim": 192,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224.augreg_in21k",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**CONFIGS["siglip"]["text_cfg"], "width": 192, "heads": 4},
    },
    "convnext": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "convnext_atto",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "timm_drop": 0.0,
            "timm_drop_path": 0.1,
        },
        "text_cfg": CONFIGS["clip"]["text_cfg"],
    },
}
"""Models with an image tower of timm, which needs timm 1.0 or newer."""

WORDS = (
    *("a", "red", "green", "blue", "circle", "square", "triangle", "small", "large"),
    *("above", "on", "background", "photo", "of", "sketch"),
)


def build(config: Config) -> Any:
    """Build a model as ``open_clip.create_model`` does, with weights of ten times the usual spread."""
    config = json.loads(json.dumps(config))
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    kind = open_clip.CoCa if "multimodal_cfg" in config else kind
    torch.manual_seed(0)
    model = kind(**config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit_") and ".ln_" not in f".{name}":
                parameter.normal_(std=0.2, generator=generator)
    preprocess = {"mean": (0.4, 0.5, 0.6), "std": (0.3, 0.25, 0.2), "size": model.visual.image_size}
    open_clip.set_model_preprocess_cfg(
        model, {**preprocess, "interpolation": "bicubic", "resize_mode": "shortest"}
    )
    return model.eval()
