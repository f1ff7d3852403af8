"""Describe a checkpoint that does not fit: its sizes, its missing heads and the nearest preset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .config import PRESETS, BlipConfig

if TYPE_CHECKING:
    from torch import Tensor

_HEADS = {
    "itc": ("vision_proj.", "text_proj."),
    "itm": ("itm_head.",),
    "cap": ("text_decoder.",),
}
"""Objective -> prefixes of the names of its own parameters."""

_SIZES = {
    "vision_width": ("visual_encoder.patch_embed.proj.weight", 0),
    "patch_size": ("visual_encoder.patch_embed.proj.weight", 2),
    "hidden_size": (r"text_(encoder|decoder\.bert)\.embeddings\.word_embeddings\.weight", 1),
    "intermediate_size": (r"text_(encoder|decoder\.bert)\.encoder\.layer\.0\.intermediate\.dense\.weight", 0),
    "max_positions": (r"text_(encoder|decoder\.bert)\.embeddings\.position_embeddings\.weight", 0),
    "embed_dim": (r"vision_proj\.weight", 0),
}
"""Entry of the configuration -> pattern of a tensor's name, and the axis that shows it."""

_COUNTS = {
    "vision_depth": r"visual_encoder\.blocks\.(\d+)\.",
    "text_layers": r"text_(?:encoder|decoder\.bert)\.encoder\.layer\.(\d+)\.",
}


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the entries of :class:`BlipConfig` that names and shapes determine: all but the numbers of heads."""
    found = {}
    for size, (pattern, axis) in _SIZES.items():
        shown_by = next((name for name in state if re.fullmatch(pattern, name)), None)
        if shown_by is not None and state[shown_by].dim() > axis:
            found[size] = int(state[shown_by].shape[axis])
    for size, pattern in _COUNTS.items():
        numbers = [int(match[1]) for name in state if (match := re.match(pattern, name))]
        if numbers:
            found[size] = max(numbers) + 1
    positions = state.get("visual_encoder.pos_embed")
    if positions is not None and positions.dim() == 3 and "patch_size" in found:
        side = round((positions.shape[1] - 1) ** 0.5)
        if side > 0 and side * side == positions.shape[1] - 1:
            found["image_size"] = side * found["patch_size"]
    return found


def disagreements(config: BlipConfig, sizes: Mapping[str, int]) -> list[str]:
    """Return the entries of ``config`` that differ from ``sizes``. The image size may differ."""
    return [name for name, size in sizes.items() if name != "image_size" and getattr(config, name) != size]


def fitting_preset(state: Mapping[str, Tensor]) -> str | None:
    """Return the preset that matches the names and shapes, if there is one."""
    sizes = sizes_of(state)
    return next((name for name, config in PRESETS.items() if not disagreements(config, sizes)), None)


def advice(config: BlipConfig, state: Mapping[str, Tensor]) -> str:
    """Return what kind of checkpoint ``state`` is and which ``config`` to give, or "" if that is unclear."""
    parts = [_lacking(state), _other_sizes(config, state)]
    return "; ".join(part for part in parts if part)


def objectives_of(state: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the objectives whose heads a checkpoint has. The set is empty if it was fine-tuned for another task.

    - A text encoder and a decoder without heads for ITC and ITM answer questions. The decoder attends to the
      question and not to the picture.
    - A classifier (NLVR) attends to two pictures.
    - A decoder with only one of the heads ITC and ITM is a damaged file.
    """
    if any(name.startswith("cls_head.") for name in state):
        return frozenset()
    names = tuple(state)
    found = frozenset(
        objective
        for objective, prefixes in _HEADS.items()
        if all(any(name.startswith(prefix) for name in names) for prefix in prefixes)
    )
    has_encoder = any(name.startswith("text_encoder.") for name in names)
    whole = found == frozenset(_HEADS)
    captioning = found == {"cap"} and not has_encoder
    return found if whole or captioning or (has_encoder and "cap" not in found) else frozenset()


def _lacking(state: Mapping[str, Tensor]) -> str:
    """Return which heads are missing, and the task that such checkpoints are fine-tuned for."""
    lacking = [
        objective
        for objective, prefixes in _HEADS.items()
        if any(not any(name.startswith(prefix) for name in state) for prefix in prefixes)
    ]
    has_encoder = any(name.startswith("text_encoder.") for name in state)
    if not lacking or not any(name.startswith("visual_encoder.") for name in state):
        return ""
    if any(name.startswith("cls_head.") for name in state):
        kind = "for NLVR or classification"
    elif lacking == ["cap"]:
        kind = "for retrieval"
    elif lacking == ["itc", "itm"]:
        kind = "for question answering" if has_encoder else "for captioning"
    else:
        kind = "for another task"
    heads = ", ".join(lacking)
    return f"it has no head for {heads}, as in checkpoints fine-tuned {kind}; a pretrained checkpoint has all three"


def _other_sizes(config: BlipConfig, state: Mapping[str, Tensor]) -> str:
    """Return the entries of ``config`` that differ from the shapes, and the preset that fits."""
    sizes = sizes_of(state)
    wrong = disagreements(config, sizes)
    if not wrong:
        return ""
    told = ", ".join(f"{name} is {getattr(config, name)}, the file has {sizes[name]}" for name in wrong)
    preset = fitting_preset(state)
    if preset is not None:
        return f"{told}; give config={preset}"
    nearest = min(PRESETS, key=lambda name: len(disagreements(PRESETS[name], sizes)))
    others = ", ".join(f"{name}={sizes[name]}" for name in disagreements(PRESETS[nearest], sizes))
    return (
        f"{told}; no preset fits (nearest: {nearest}, with {others}); give config=FILE.json with these values"
    )
