"""Read and write BLIP weights: the published ``.pth`` files and our safetensors, checked name by name.

The safetensors file holds the published state-dict names and, in its metadata, ``format`` and ``config`` (JSON of
:class:`~guidelens_blip.config.BlipConfig`). Some parameters have several names (decoder and encoder, output layer and
word embeddings). They are stored once, under the first name in state-dict order: the name in ``text_encoder.*`` if
there is one. The model is built with shared parameters, so loading one name sets them all. Momentum encoders and
feature queues are neither written nor read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from guidelens.errors import GuidelensError
from guidelens.files import replacing
from guidelens.weights import check_finite, read_state, weights_in
from safetensors import SafetensorError
from safetensors.torch import save_file

from .config import PRESETS, BlipConfig
from .diagnosis import advice, fitting_preset, objectives_of
from .lavis import MOMENTUM_PARTS, QUEUES, build_lavis
from .network import OBJECTIVES, Blip, build_blip
from .tokenizer import load_tokenizer
from .weights import BLIP_BASE, VOCABULARY, published_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("guidelens.blip")

ANCHORS = ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding", "visual_encoder.pos_embed")
"""A checkpoint of BLIP has one of these names: LAVIS's or transformers'."""
Backend = Literal["native", "lavis"]
FORMAT = "guidelens-blip-1"
_RETRIEVAL_QUEUES = ("idx_queue", "ptr_queue")
"""Prefixes of tensors that only fine-tuning for retrieval uses."""
POSITIONS = "visual_encoder.pos_embed"
_TRANSFORMERS = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding", "pos_embed"),
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"encoder\.layers\.", "blocks."),
    (r"self_attn\.projection\.", "attn.proj."),
    (r"self_attn\.", "attn."),
    (r"layer_norm(\d)\.", r"norm\1."),
    (r"post_layernorm\.", "norm."),
)
"""Parts of the image encoder's tensor names: transformers' -> LAVIS's."""
STALE_BIAS = "text_decoder.cls.predictions.bias"
"""A bias that the decoder never reads: it uses ``predictions.decoder.bias``, the other name of the parameter."""


def load_model(
    checkpoint: str | Path,
    *,
    vocab: str | Path | None = None,
    config: BlipConfig | None = None,
    image_size: int | None = None,
    backend: Backend = "native",
    key: str | None = None,
) -> tuple[Any, BlipConfig]:
    """Build the model that ``checkpoint`` holds and load its weights. Return the model and its configuration.

    The network has the heads that the checkpoint has. A pretrained checkpoint has all three. One that was
    fine-tuned for retrieval has ``itc`` and ``itm``, and one for captioning has ``cap``.

    :param checkpoint: ``.safetensors`` from :func:`save_blip`; any file with LAVIS's or transformers' names, as
        training programs save them; or a folder of transformers.
    :param vocab: the vocabulary file; by default the configuration's ``vocab_file`` beside the checkpoint, or
        for the presets bert-base-uncased's (:func:`published_vocabulary`).
    :param config: the size of the model. Default: the configuration in the safetensors file, or for other files
        the preset that matches the shapes of the tensors.
    :param image_size: an image size that replaces the configuration's. Position embeddings are interpolated.
    :param backend: see :func:`build`.
    :param key: the entry of the checkpoint to read, if it holds several networks.
    :raises GuidelensError: a file is missing, unreadable or of another model, or LAVIS is needed and not installed.
    """
    path = _weights_file(Path(checkpoint))
    state, stored = read_checkpoint(path, key=key)
    config = config or stored or PRESETS[fitting_preset(state) or "base"]
    objectives = objectives_of(state)
    vocab_path = _find_vocab(path, vocab, config)
    if image_size is not None:
        config = config.with_image_size(image_size)
    if backend == "native":
        model = Blip(config, load_tokenizer(vocab_path), objectives or OBJECTIVES)
    elif objectives and objectives != OBJECTIVES:
        raise GuidelensError(
            f"{path} has heads for {', '.join(sorted(objectives))}, but LAVIS's network needs all three: leave out "
            "backend=lavis"
        )
    else:
        with torch.random.fork_rng(
            devices=[]
        ):  # LAVIS draws weights; the caller's random state must not change
            model = build_lavis(config, vocab_path)
    load_state(model, state, source=str(path), config=config)
    if objectives and objectives != OBJECTIVES:
        lacking = ", ".join(sorted(OBJECTIVES - objectives))
        logger.warning("%s has no head for %s; it offers %s", path, lacking, ", ".join(sorted(objectives)))
    return model, config


def _weights_file(path: Path) -> Path:
    """Return the weights file in a folder that transformers saved, or the index of its parts. Return a file unchanged.

    :raises GuidelensError: the folder has no weights file.
    """
    if not path.is_dir():
        return path
    found = weights_in(path)
    if found is None:
        raise GuidelensError(f"the directory {path} holds no model.safetensors or pytorch_model.bin")
    return found


def build(config: BlipConfig, vocab: str | Path, backend: Backend = "native") -> Any:
    """Build a network with random weights.

    :param backend: ``native``, our own network, or ``lavis``, LAVIS's ``BlipPretrain``. Both have the same tensors.
    :raises GuidelensError: the vocabulary cannot be read, or LAVIS is not installed.
    """
    return build_lavis(config, vocab) if backend == "lavis" else build_blip(config, vocab)


def read_checkpoint(path: Path, *, key: str | None = None) -> tuple[dict[str, Tensor], BlipConfig | None]:
    """Return the tensors of a checkpoint by name and, for our safetensors, the configuration in its metadata.

    :raises GuidelensError: the file is missing or unreadable, or holds no named tensors.
    """
    if not path.is_file():
        raise GuidelensError(
            f"there is no BLIP checkpoint at {path}; `guidelens weights fetch {BLIP_BASE.name}` gets the published one"
        )
    found = read_state(
        path, f"{path} as a BLIP checkpoint", anchors=ANCHORS, key=key
    )  # mapped: queues stay unread
    state = {_lavis_name(name): tensor for name, tensor in found.tensors.items()}
    check_finite({name: tensor for name, tensor in state.items() if not _ignored(name)}, str(path))
    return state, BlipConfig.from_json(found.metadata["config"]) if "config" in found.metadata else None


def _lavis_name(name: str) -> str:
    """Translate transformers' name of a tensor to LAVIS's. Only those of the image encoder differ."""
    if not name.startswith("vision_model."):
        return name
    name = name.replace("vision_model.", "visual_encoder.", 1)
    for theirs, ours in _TRANSFORMERS:
        name = re.sub(theirs, ours, name)
    return name


def load_state(
    model: Any,
    state: Mapping[str, Tensor],
    *,
    source: str = "the checkpoint",
    config: BlipConfig | None = None,
) -> None:
    """Copy the tensors of ``state`` into ``model``. All must fit, except momentum encoders and queues.

    Tensors are cast to the model's precision. Position embeddings of another image size are interpolated
    (:func:`interpolate_positions`).

    :param source: the name of ``state`` in errors.
    :param config: the configuration of ``model``. Errors name the entries that do not fit.
    :raises GuidelensError: a name is missing or unknown, a shape differs, or the values stored under two
        names that BLIP shares disagree.
    """
    state = {name: tensor for name, tensor in state.items() if not _ignored(name)}
    own = {name: tensor for name, tensor in model.state_dict().items() if not _ignored(name)}
    if POSITIONS in state:
        state[POSITIONS] = interpolate_positions(state[POSITIONS], own[POSITIONS])
    groups = shared_groups(own)
    for group in groups:
        present = [name for name in group if name in state]
        if STALE_BIAS in present and len(present) > 1:
            del state[STALE_BIAS]
            present.remove(STALE_BIAS)
        for other in present[1:]:
            if not torch.equal(state[present[0]], state[other]):
                raise GuidelensError(f"{source}: {present[0]} and {other} differ, but BLIP shares them")
    problems = _problems(groups, own, state)
    if problems:
        hint = advice(config, state) if config is not None else ""
        told = "; ".join([*problems, *([hint] if hint else [])])
        raise GuidelensError(f"{source} does not hold this BLIP model: {told}")
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def _problems(
    groups: Iterable[tuple[str, ...]], own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> list[str]:
    """Describe what is missing, unexpected or of the wrong shape, naming the first few of each."""
    missing = [group[0] for group in groups if not any(name in state for name in group)]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {_shape(tensor)} instead of {_shape(own[name])}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("shapes differ", shapes))
    return [f"{what} ({len(names)}): {_first_few(names)}" for what, names in found if names]


def interpolate_positions(stored: Tensor, own: Tensor) -> Tensor:
    """Resize position embeddings (1, 1 + n*n, D) to the grid of ``own`` (1, 1 + m*m, D), bicubically, as
    LAVIS does.

    The class token's embedding stays. Other shapes are returned unchanged.
    """
    if stored.dim() != 3 or stored.shape[1] == own.shape[1]:
        return stored
    old, new = round((stored.shape[1] - 1) ** 0.5), round((own.shape[1] - 1) ** 0.5)
    if old < 1 or old * old != stored.shape[1] - 1:
        return stored
    grid = stored[:, 1:].reshape(-1, old, old, stored.shape[2]).permute(0, 3, 1, 2).float()
    resized = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((stored[:, :1].float(), resized.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)


def shared_groups(state: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """Return the names of ``state`` grouped by the memory they share, in order; most groups have one name."""
    groups: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        groups.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return [tuple(names) for names in groups.values()]


def save_blip(model: Any, config: BlipConfig, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``model`` and ``config`` atomically as safetensors. Shared tensors are stored once, as described above.

    :param dtype: precision of the stored weights. ``torch.float16`` halves the file. Weights load as float32.
    :raises GuidelensError: the file cannot be written.
    """
    target = Path(path)
    tensors = {}
    for name, tensor in unique_state(model).items():
        tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)
        tensors[name] = tensor.contiguous()
    try:
        with replacing(target) as temporary:
            save_file(tensors, str(temporary), metadata={"format": FORMAT, "config": config.to_json()})
    except (OSError, SafetensorError) as error:
        raise GuidelensError(f"cannot write the BLIP checkpoint {target}: {error}") from error


def unique_state(model: Any) -> dict[str, Tensor]:
    """Return the tensors that inference needs. A shared tensor appears once, under its first name."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not _ignored(name)}
    return {group[0]: state[group[0]] for group in shared_groups(state)}


def digest(model: Any, config: BlipConfig) -> str:
    """Return the SHA-256 (hex) of the configuration, the vocabulary and the weights in float32.

    It does not depend on the file format or the device.
    """
    sha = hashlib.sha256(config.to_json().encode())
    vocabulary = sorted(model.wordpiece.vocabulary.items(), key=lambda entry: entry[1])
    sha.update("\n".join(token for token, _ in vocabulary).encode())
    for name, tensor in sorted(unique_state(model).items()):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data.cast("B"))
    return sha.hexdigest()


def _find_vocab(checkpoint: Path, vocab: str | Path | None, config: BlipConfig) -> Path:
    """Return the vocabulary file: ``vocab``, or the one beside the checkpoint, or the published one."""
    if vocab is not None:
        return Path(vocab).expanduser()
    beside = checkpoint.parent / config.vocab_file
    if beside.is_file():
        return beside
    published = config.with_image_size(224) in PRESETS.values()
    if published and (cached := published_vocabulary()) is not None:
        return cached
    command = f"run `guidelens weights fetch {VOCABULARY.name}`, " if published else ""
    raise GuidelensError(
        f"found no WordPiece vocabulary for {checkpoint}: {command}give vocab=FILE, or copy the file to {beside}"
    )


def _ignored(name: str) -> bool:
    """Return whether a state-dict entry is used in pretraining only (momentum, queues), or constant (position ids)."""
    part = name.split(".")[0]
    return (
        part in MOMENTUM_PARTS
        or part in (*QUEUES, *_RETRIEVAL_QUEUES)
        or name.endswith(".embeddings.position_ids")
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"


def _first_few(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
