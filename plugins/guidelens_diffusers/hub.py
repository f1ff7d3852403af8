"""Find repositories of the Hugging Face hub in the cache, or download them on request."""

from __future__ import annotations

import json
from pathlib import Path

from guidelens.weights.hub import cached_repository, download_repository

WEIGHTS = "diffusion_pytorch_model"
INDEX = "model_index.json"
_NETWORKS = ("unet", "transformer")
_DECODERS = ("vae", "vqvae")
_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def snapshot(
    hub_id: str, *, revision: str | None, unet: str | None, subfolder: str | None, download: bool
) -> Path:
    """Return the directory of a hub repository in the Hugging Face cache.

    :param unet: the directory of the network, if it is not the usual one.
    :param download: fetch what is missing.
    :raises GuidelensError: it is not in the cache, or the download failed.
    """
    below = "" if subfolder is None else f"{subfolder}/"
    configs, weights = _patterns(below, unet)

    def complete(directory: Path) -> bool:
        return _complete(directory / below, unet)

    found = cached_repository(
        hub_id,
        revision,
        download=download,
        complete=complete,
        patterns=configs + weights,
        missing=f"{hub_id} is neither a directory nor in the Hugging Face cache",
        cure=f"to download it, say diffusers:path={hub_id},download=true",
    )
    if found is not None:
        return found
    safe = [pattern + ".safetensors" for pattern in weights]
    older = [pattern.removesuffix("*") + ".bin" for pattern in weights]
    return download_repository(hub_id, revision, [configs + safe, configs + older], complete=complete)


def _patterns(below: str, unet: str | None) -> tuple[list[str], list[str]]:
    """Return the patterns of small files, and the stems of weights."""
    networks = _NETWORKS if unet is None else (unet,)
    folders = [below, *(f"{below}{name}/" for name in (*networks, *_DECODERS))]
    encoders = [f"{below}{name}/" for name in _ENCODERS]
    configs = [f"{folder}*.json" for folder in (*folders, *encoders, f"{below}scheduler/")]
    configs += [f"{below}{name}/*" for name in _TOKENIZERS]
    weights = [f"{folder}{WEIGHTS}*" for folder in folders]
    weights += [f"{folder}{stem}*" for folder in encoders for stem in ("model", "pytorch_model")]
    return configs, weights


def _complete(directory: Path, unet: str | None) -> bool:
    """Return whether each part that the index names has weights of any kind."""
    networks = _NETWORKS if unet is None else (unet,)
    present = [directory / name for name in networks if (directory / name).is_dir()] or [directory]
    parts = [*present, *(directory / name for name in _listed(directory) if name in (*_DECODERS, *_ENCODERS))]
    return all(_has_weights(part) for part in parts)


def _listed(directory: Path) -> list[str]:
    """Return the parts of a pipeline's index, or nothing if it cannot be read. The failure is reported later."""
    try:
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name, value in index.items() if isinstance(value, list) and value and value[0]]


def _has_weights(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir())
