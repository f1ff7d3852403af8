"""Convert CLIP from Hugging Face's transformers: its ``config.json`` and tensor names, to open_clip's.

Both compute the same network. transformers has three layers for queries, keys and values, and linear layers for
projections. open_clip has one matrix for the former, and stores the latter transposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from guidelens.errors import GuidelensError

from .siglip import KIND as SIGLIP
from .siglip import siglip_config

if TYPE_CHECKING:
    from torch import Tensor

MARK = "vision_model.embeddings.class_embedding"
"""A tensor name that every CLIP file of transformers has."""
PREPROCESSOR_FILE = "preprocessor_config.json"

_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""Defaults of transformers for missing entries of a configuration."""

_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    MARK: "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
}
_PARTS = (
    ("text_model.final_layer_norm.", "ln_final."),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
)
_LAYER = (
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
_QUERY = re.compile(r"(?P<layer>.+)\.self_attn\.q_proj\.(?P<kind>weight|bias)")
_RESAMPLE = {2: "bilinear", 3: "bicubic"}


def is_transformers(config: Mapping[str, Any]) -> bool:
    """Return whether a ``config.json`` describes a model of transformers rather than of open_clip."""
    return "model_type" in config and "vision_cfg" not in config


def model_config(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return open_clip's configuration of a CLIP that transformers describes, or that of a SigLIP (:mod:`.siglip`).

    :param source: the name of the file in errors.
    :raises GuidelensError: the model is of another kind, or open_clip's network cannot compute it.
    """
    kind = config.get("model_type")
    if kind == SIGLIP:
        return siglip_config(config, source)
    if kind != "clip":
        raise GuidelensError(
            f"{source} describes a {kind} of transformers, but only CLIP and SigLIP of one image size can be read"
        )
    try:
        text = {**_TEXT, **(config.get("text_config_dict") or {}), **(config.get("text_config") or {})}
        vision = {
            **_VISION,
            **(config.get("vision_config_dict") or {}),
            **(config.get("vision_config") or {}),
        }
        activations = {text["hidden_act"], vision["hidden_act"]}
        if len(activations) != 1 or not activations <= {"gelu", "quick_gelu"}:
            raise GuidelensError(
                f"{source} has the activations {', '.join(sorted(map(str, activations)))}; open_clip's network "
                "needs the same one, gelu or quick_gelu, in both towers"
            )
        return {
            "embed_dim": config.get("projection_dim", 512),
            "quick_gelu": activations == {"quick_gelu"},
            "vision_cfg": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "layers": vision["num_hidden_layers"],
                "width": vision["hidden_size"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
                "norm_kwargs": {"eps": vision["layer_norm_eps"]},
            },
            "text_cfg": {
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
                "width": text["hidden_size"],
                "heads": text["num_attention_heads"],
                "layers": text["num_hidden_layers"],
                "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
                "norm_kwargs": {"eps": text["layer_norm_eps"]},
            },
        }
    except (TypeError, ValueError, ZeroDivisionError) as error:  # values of another type
        raise GuidelensError(f"cannot read {source} as a model configuration: {error}") from error


def preprocess_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return open_clip's preprocessing of a ``preprocessor_config.json``; {} for an empty one."""
    found: dict[str, Any] = {}
    if config.get("image_mean") and config.get("image_std"):
        found |= {"mean": tuple(config["image_mean"]), "std": tuple(config["image_std"])}
    if config.get("resample") in _RESAMPLE:
        found["interpolation"] = _RESAMPLE[config["resample"]]
    size = config.get("size")
    if isinstance(size, dict):
        found["resize_mode"] = "shortest" if "shortest_edge" in size else "squash"
    return found


def open_clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of transformers' CLIP under open_clip's names. Names that are not CLIP's stay."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(".position_ids"):  # a constant, up to transformers 4.30
            continue
        if match := _QUERY.fullmatch(name):
            thirds = [f"{match['layer']}.self_attn.{part}_proj.{match['kind']}" for part in "qkv"]
            if all(third in state for third in thirds):
                joined = torch.cat([state[third] for third in thirds])
                converted[f"{_renamed(match['layer'])}.attn.in_proj_{match['kind']}"] = joined
                continue
        elif re.search(r"\.self_attn\.[kv]_proj\.", name):
            continue
        if name in ("visual_projection.weight", "text_projection.weight"):
            converted["visual.proj" if name.startswith("visual") else "text_projection"] = tensor.T
        else:
            converted[_NAMES.get(name) or _renamed(name)] = tensor
    return converted


def _renamed(name: str) -> str:
    for theirs, ours in _PARTS:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            for their_part, our_part in _LAYER:
                name = name.replace(f".{their_part}", f".{our_part}")
    return name
