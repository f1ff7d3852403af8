"""Read weights under open_clip's names and check every name. No code in a file is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from guidelens.errors import GuidelensError
from guidelens.weights import check_finite, read_state

from .hugging_face import MARK, open_clip_state
from .open_clip_import import import_open_clip
from .text import vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .preprocess import Preprocess
    from .text import Tokenizer

ANCHORS = ("logit_scale", MARK, "visual.proj", "visual.conv1.weight")
"""Every network of open_clip has one of these names."""
OF_OPENAI = ("input_resolution", "context_length", "vocab_size")
"""Numbers that only OpenAI's files store beside the weights."""
POSITIONS = "visual.positional_embedding"
POSITION_IDS = ".embeddings.position_ids"
"""Endings of the names of constants that transformers up to 4.30 stored."""
ARCHITECTURE = (
    *("num_heads", "num_attention_heads", "heads", "pool_type", "text_pool_type", "attn_pool_type"),
    *("final_ln_after_pool", "pad_id", "image_size", "patch_size", "context_length"),
)
"""Attributes of modules that change the results, but appear neither in ``repr`` nor in the weights."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file.

    :param state: tensors under open_clip's names.
    :param quick_gelu: the file is OpenAI's. Its network uses QuickGELU, which the weights do not show.
    """

    state: dict[str, Tensor]
    quick_gelu: bool = False


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a ``.safetensors``, a PyTorch file or a TorchScript archive (OpenAI's files). Run no code in it.

    Names of Hugging Face's transformers are translated (:mod:`.hugging_face`).
    The network may be part of a training program's state (:func:`guidelens.weights.read_state`).

    :param key: the entry of the file to read, if it holds several networks.
    :raises UsageError: the file holds several networks and ``key`` is missing, or nothing fits ``key``.
    :raises GuidelensError: the file is missing or unreadable, or holds no named tensors.
    """
    if not path.is_file():
        raise GuidelensError(f"there is no checkpoint at {path}")
    found = read_state(path, f"the checkpoint {path}", anchors=ANCHORS, key=key)
    state = open_clip_state(found.tensors) if MARK in found.tensors else dict(found.tensors)
    described = [state.pop(name, None) for name in OF_OPENAI]
    check_finite(state, str(path))
    return Checkpoint(state, quick_gelu=all(value is not None for value in described))


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, source: str = "the checkpoint") -> None:
    """Copy all tensors of ``state`` into ``model``, cast to the model's precision.

    Older names are translated as in open_clip: text towers without a prefix, Apple's MobileCLIP. Position
    embeddings of another image size are interpolated (:func:`interpolate_positions`).

    :param source: the name of ``state`` in errors.
    :raises GuidelensError: a name is missing or unknown, or a shape differs.
    """
    own = model.state_dict()
    given = import_open_clip("convert").convert_state_dict(model, dict(state))
    if "positional_embedding" in given and "positional_embedding" not in own:
        given = import_open_clip("model").convert_to_custom_text_state_dict(given)
    given = {name: tensor for name, tensor in given.items() if name in own or not name.endswith(POSITION_IDS)}
    for name in ("logit_scale", "logit_bias"):  # a scalar, or a vector of one
        if name in given and name in own and given[name].numel() == 1:
            given[name] = given[name].reshape(own[name].shape)
    grid = getattr(getattr(model, "visual", None), "grid_size", None)
    if POSITIONS in given and POSITIONS in own and grid is not None:
        given[POSITIONS] = interpolate_positions(given[POSITIONS], grid)
    problems = _problems(own, given)
    if problems:
        raise GuidelensError(f"{source} does not hold this model: {'; '.join(problems)}")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)


def _problems(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Describe what is missing, unexpected or of the wrong shape, naming the first few of each."""
    shapes = [
        f"{name} is {_shape(tensor)} instead of {_shape(own[name])}"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    found = (
        ("missing", [name for name in own if name not in given]),
        ("unexpected", [name for name in given if name not in own]),
        ("shapes differ", shapes),
    )
    return [f"{what} ({len(names)}): {_first_few(names)}" for what, names in found if names]


def interpolate_positions(stored: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize position embeddings (1 + n*n, D) to ``grid`` (h, w), bicubically with antialiasing, as open_clip does.

    The class token's embedding stays. Other shapes are returned unchanged.
    """
    height, width = grid
    old = round((len(stored) - 1) ** 0.5) if len(stored) > 1 else 0
    if stored.dim() != 2 or old * old != len(stored) - 1 or len(stored) == 1 + height * width:
        return stored
    square = stored[1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat((stored[:1].float(), resized[0].permute(1, 2, 0).flatten(0, 1)))


def digest(model: nn.Module, tokenizer: Tokenizer, preprocess: Preprocess, context_length: int) -> str:
    """Return the SHA-256 (hex) of architecture, weights (as float32), preprocessing and tokenizer.

    It does not depend on the file format or the device.
    """
    sha = hashlib.sha256()
    structure = [
        (name, [(attribute, repr(getattr(module, attribute, None))) for attribute in ARCHITECTURE])
        for name, module in model.named_modules()
    ]
    reading = tokenizer(
        ["A photo of 2 small, bright-green frogs (on a naïve mat)!"], context_length=context_length
    )
    described = [repr(model), structure, repr(preprocess), reading.tolist(), vocabulary(tokenizer)]
    sha.update(json.dumps(described).encode())
    # Include buffers: the causal mask of the text tower is not in the state dict.
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data.cast("B"))
    return sha.hexdigest()


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"


def _first_few(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
