"""Weights for tests of BLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def lively(model: Any, std: float = 0.2) -> Any:
    """Redraw all weights with spread ``std``, ten times the initial one: no loss is near a plateau."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "temp" and "LayerNorm" not in name and "norm" not in name:
                parameter.normal_(std=std, generator=generator)
    return model


def sharing(model: Any) -> set[frozenset[str]]:
    """The sets of parameter names that are one parameter."""
    groups: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in groups.values()}


def with_momentum(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add what published files hold for pretraining alone: momentum encoders, queues, constants."""
    momentum = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part in ("visual_encoder", "text_encoder", "vision_proj", "text_proj"):
            momentum[f"{part}_m.{rest}"] = tensor * 0.5
    positions = torch.arange(20)[None]
    return {
        **state,
        **momentum,
        "text_encoder.embeddings.position_ids": positions,
        "text_decoder.bert.embeddings.position_ids": positions,
        "image_queue": torch.zeros(12, 12),
        "text_queue": torch.zeros(12, 12),
        "queue_ptr": torch.zeros(1, dtype=torch.long),
    }


def published_vocabulary(folder: Path) -> Path:
    """Write a vocabulary as long as bert-base-uncased's."""
    path = folder / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *(f"word{i}" for i in range(30522 - 5))]) + "\n")
    return path
