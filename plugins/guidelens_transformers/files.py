"""Find a model's files: in a directory, in the Hugging Face cache, or, on request, on the hub."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from guidelens.errors import GuidelensError, UsageError
from guidelens.weights.hub import cached_repository, download_repository

logger = logging.getLogger("guidelens.transformers")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_SETTINGS = ["*.json", "*.txt", "*.model", "*.jinja"]


def locate(model: str, *, revision: str | None = None, download: bool = False, component: str = "hf") -> Path:
    """Return the directory of a model, given as a directory or as a hub id.

    The fingerprint of a model hashes its content, so another revision with other weights never shares a key.

    :param revision: of a hub id: a branch, tag or commit.
    :param component: the name of the component in messages.
    :param download: fetch a hub id that is not in the cache; otherwise the network is never used.
    :raises UsageError: the options do not fit ``model``.
    :raises GuidelensError: the model is neither a directory nor in the cache, or the download failed.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        if revision is not None or download:
            option = "revision" if revision is not None else "download"
            raise UsageError(f"{component}:model={model} is a directory: leave out the option {option}")
        return directory
    if directory.exists() or not _HUB_ID.fullmatch(model):
        raise GuidelensError(f"{component}:model={model}: there is no such directory")
    found = _snapshot(model, revision, download, component)
    logger.info("%s: revision %s", model, found.name)
    return found


def _snapshot(model: str, revision: str | None, download: bool, component: str) -> Path:
    """Return the directory of a hub repository in the local cache, fetched first if ``download``."""
    found = cached_repository(
        model,
        revision,
        download=download,
        complete=_has_weights,
        missing=f"{model} is not a directory, and not in the Hugging Face cache",
        cure=f"to download it, add download=true: {component}:model={model},download=true",
    )
    if found is not None:
        return found
    logger.warning("downloading %s from the Hugging Face hub; its license applies", model)
    return download_repository(
        model,
        revision,
        [[*_SETTINGS, "*.safetensors"], [*_SETTINGS, "*.bin"]],
        complete=_has_weights,
        otherwise=(f"; without a network, copy its directory here and give {component}:model=DIRECTORY"),
    )


def _has_weights(directory: Path) -> bool:
    return any(path.suffix in (".safetensors", ".bin") for path in directory.iterdir())
