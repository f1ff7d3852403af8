"""Read and write BLIP weights: the published ``.pth`` files and our safetensors, checked name by name.

The safetensors file holds the published state-dict names and, in its metadata, ``format`` and ``config`` (JSON of
:class:`~guidelens_blip.config.BlipConfig`). Parameters that several names share (decoder and encoder,
output layer and word embeddings) are stored once, under the first of their names in state-dict order,
``text_encoder.*`` where it has one. Since the model is built with its parameters shared, loading any one name
sets them all. Momentum encoders and feature queues are neither written nor read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from guidelens.errors import GuidelensError
from guidelens.files import replacing
from guidelens.weights.reading import read_torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import PRESETS, BlipConfig
from .diagnosis import advice, fitting_preset
from .lavis import MOMENTUM_PARTS, QUEUES, build_lavis
from .network import Blip, build_blip
from .tokenizer import load_tokenizer
from .weights import BLIP_BASE, VOCABULARY, published_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

Backend = Literal["native", "lavis"]
FORMAT = "guidelens-blip-1"
POSITIONS = "visual_encoder.pos_embed"
STALE_BIAS = "text_decoder.cls.predictions.bias"
"""Never read by the decoder's forward pass: ``predictions.decoder.bias``, its other name, is what counts."""


def load_model(
    checkpoint: str | Path,
    *,
    vocab: str | Path | None = None,
    config: BlipConfig | None = None,
    image_size: int | None = None,
    backend: Backend = "native",
) -> tuple[Any, BlipConfig]:
    """Build the model that ``checkpoint`` holds and load its weights; return it with its configuration.

    :param checkpoint: ``.safetensors`` from :func:`save_blip`, or a PyTorch file with LAVIS's names, bare or
        under ``"model"`` (unpickled as plain weights only).
    :param vocab: the vocabulary file; by default the configuration's ``vocab_file`` beside the checkpoint, or
        for the presets bert-base-uncased's (:func:`published_vocabulary`).
    :param config: the size of the model; by default what the safetensors file says, or for other files the
        preset that their tensors' shapes are those of.
    :param image_size: another image size than the configuration's; position embeddings are interpolated.
    :param backend: see :func:`build`.
    :raises GuidelensError: a file is missing, unreadable, or holds another model; LAVIS is asked for and absent.
    """
    path = Path(checkpoint)
    state, stored = read_checkpoint(path)
    config = config or stored or PRESETS[fitting_preset(state) or "base"]
    vocab_path = _find_vocab(path, vocab, config)
    if image_size is not None:
        config = config.with_image_size(image_size)
    if backend == "native":
        model = Blip(config, load_tokenizer(vocab_path))
    else:
        with torch.random.fork_rng(
            devices=[]
        ):  # LAVIS draws weights, which must not advance the caller's numbers
            model = build_lavis(config, vocab_path)
    load_state(model, state, source=str(path), config=config)
    return model, config


def build(config: BlipConfig, vocab: str | Path, backend: Backend = "native") -> Any:
    """Build a network with random weights.

    :param backend: ``native``, our own network, or ``lavis``, LAVIS's ``BlipPretrain``. Both have the same tensors.
    :raises GuidelensError: the vocabulary cannot be read, or LAVIS is not installed.
    """
    return build_lavis(config, vocab) if backend == "lavis" else build_blip(config, vocab)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], BlipConfig | None]:
    """Return the tensors of a checkpoint by name and, for our safetensors, the configuration in its metadata.

    :raises GuidelensError: the file is missing or unreadable, or holds no named tensors.
    """
    if not path.is_file():
        raise GuidelensError(
            f"there is no BLIP checkpoint at {path}; `guidelens weights fetch {BLIP_BASE.name}` gets the published one"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    # Mapped: momentum parts and queues stay unread.
    payload = read_torch(path, f"{path} as a BLIP checkpoint", contents="weights")
    if isinstance(payload, Mapping) and isinstance(payload.get("model"), Mapping):
        payload = payload["model"]
    if not isinstance(payload, Mapping) or not payload or not all(map(_is_named_tensor, payload.items())):
        raise GuidelensError(f"{path} is not a BLIP checkpoint: it holds no table of named tensors")
    return dict(payload), None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], BlipConfig | None]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise GuidelensError(f"cannot read {path} as a BLIP checkpoint: {error}") from error
    return state, BlipConfig.from_json(metadata["config"]) if "config" in metadata else None


def _is_named_tensor(entry: tuple[Any, Any]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], torch.Tensor)


def load_state(
    model: Any,
    state: Mapping[str, Tensor],
    *,
    source: str = "the checkpoint",
    config: BlipConfig | None = None,
) -> None:
    """Copy the tensors of ``state`` into ``model``; everything but momentum parts and queues must fit.

    Tensors are cast to the model's precision. Position embeddings of another image size are interpolated
    (:func:`interpolate_positions`).

    :param source: what to call ``state`` in an error.
    :param config: what ``model`` was built from, to say what is wrong with it in an error.
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

    The class token's embedding stays. What is not such a square grid is returned as it is.
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
    """Write ``model`` and ``config`` as safetensors, shared tensors once (see the module's text), atomically.

    :param dtype: store floating-point weights in this precision, ``torch.float16`` for half the size; loading
        gives float32 again.
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
    """Return the model's tensors, each shared one once under its first name, without what only pretraining
    uses."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not _ignored(name)}
    return {group[0]: state[group[0]] for group in shared_groups(state)}


def digest(model: Any, config: BlipConfig) -> str:
    """Return the SHA-256 (hex) of the configuration, the vocabulary and the weights in float32.

    It does not depend on the file format the weights came from, nor on the device.
    """
    sha = hashlib.sha256(config.to_json().encode())
    vocabulary = sorted(model.wordpiece.vocabulary.items(), key=lambda entry: entry[1])
    sha.update("\n".join(token for token, _ in vocabulary).encode())
    for name, tensor in sorted(unique_state(model).items()):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data.cast("B"))
    return sha.hexdigest()


def _find_vocab(checkpoint: Path, vocab: str | Path | None, config: BlipConfig) -> Path:
    """Return the vocabulary to use: the one given, one beside the checkpoint, or the published one."""
    if vocab is not None:
        return Path(vocab)
    beside = checkpoint.parent / config.vocab_file
    if beside.is_file():
        return beside
    published = config.with_image_size(224) in PRESETS.values()
    if published and (cached := published_vocabulary()) is not None:
        return cached
    command = f"run `guidelens weights fetch {VOCABULARY.name}`, " if published else ""
    raise GuidelensError(
        f"no WordPiece vocabulary for {checkpoint}: {command}give vocab=FILE or put it at {beside}"
    )


def _ignored(name: str) -> bool:
    """Whether a state-dict entry only serves pretraining (momentum, queues) or is a constant (position
    ids)."""
    part = name.split(".")[0]
    return part in MOMENTUM_PARTS or part in QUEUES or name.endswith(".embeddings.position_ids")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"


def _first_few(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
