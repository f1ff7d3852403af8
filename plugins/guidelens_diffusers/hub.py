"""Find repositories of the Hugging Face hub in the cache, or download them on request."""

from __future__ import annotations

import json
from pathlib import Path

from guidelens.errors import GuidelensError

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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    below = "" if subfolder is None else f"{subfolder}/"
    configs, weights = _patterns(below, unet)
    try:
        found = Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=configs + weights, local_files_only=True
            )
        )
        if not download or _complete(found / below, unet):
            return found
    except LocalEntryNotFoundError:
        if not download:
            at = "" if revision is None else f" at revision {revision}"
            raise GuidelensError(
                f"{hub_id} is neither a directory nor in the Hugging Face cache{at}; to download it, say "
                f"diffusers:path={hub_id},download=true"
            ) from None
    try:
        safe = [pattern + ".safetensors" for pattern in weights]
        found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=configs + safe))
        if not _complete(found / below, unet):
            older = [pattern.removesuffix("*") + ".bin" for pattern in weights]
            found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=configs + older))
    except Exception as error:  # the connection, the hub and the disk raise many types
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot download {hub_id} from the Hugging Face hub: {reason}") from error
    return found


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
