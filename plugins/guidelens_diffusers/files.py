"""Find a pipeline's files: in a directory, in the Hugging Face cache, or, when asked, on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = "diffusion_pytorch_model"

NETWORK = "UNet2DModel"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")


@dataclass(frozen=True)
class PipelineFiles:
    """What a directory holds, read and checked.

    :param network: the directory of the network.
    :param config: the network's ``config.json``.
    :param scheduler: the scheduler's configuration.
    :param safetensors: whether the weights are; otherwise a ``.bin``, which is read with ``weights_only``.
    """

    network: Path
    config: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    safetensors: bool


def locate(path: str, *, revision: str | None, unet: str, subfolder: str | None, download: bool) -> Path:
    """Return the directory of a pipeline, given as such or as a hub id.

    :param download: fetch a hub id that is not in the cache; otherwise the network is never used.
    :raises UsageError: options that do not fit ``path``.
    :raises GuidelensError: neither here nor in the cache, or the download failed.
    """
    directory = Path(path).expanduser()
    if directory.exists() or not _HUB_ID.fullmatch(path):
        if revision is not None or download:
            option = "revision" if revision is not None else "download"
            raise UsageError(f"diffusers:path={path} is no hub id: leave out the option {option}")
        if not directory.is_dir():
            raise GuidelensError(f"diffusers:path={path}: there is no such directory")
    else:
        directory = _snapshot(path, revision=revision, unet=unet, subfolder=subfolder, download=download)
    if subfolder is None:
        return directory
    if not (directory / subfolder).is_dir():
        raise GuidelensError(f"diffusers:path={path} has no directory {subfolder} (subfolder)")
    return directory / subfolder


def read_pipeline(
    directory: Path, *, unet: str = "unet", variant: str | None = None, scheduler: Path | None = None
) -> PipelineFiles:
    """Read the configurations of a pipeline, or of a network alone where ``scheduler`` is given.

    :param scheduler: a configuration, or its directory, in place of the pipeline's own.
    :raises GuidelensError: a file is missing or unreadable, or the pipeline is no unconditional one of pixels.
    """
    _check_index(directory)
    network = directory / unet if (directory / unet).is_dir() else directory
    config = _read_json(network / CONFIG, f"the configuration of a {NETWORK}")
    kind = config.get("_class_name", NETWORK)
    if kind != NETWORK:
        hint = ", which is conditioned on text or the like: a generator knows none" if "Cond" in kind else ""
        raise GuidelensError(f"{network / CONFIG} describes a {kind}, no {NETWORK}{hint}")
    return PipelineFiles(
        network=network,
        config=config,
        scheduler=_read_json(_scheduler_file(directory, scheduler), "the configuration of a scheduler"),
        safetensors=_has_safetensors(network, variant),
    )


def _check_index(directory: Path) -> None:
    """:raises GuidelensError: for a pipeline with parts that a guided run could not do without."""
    if not (directory / INDEX).is_file():
        return
    index = _read_json(directory / INDEX, "a pipeline's index")
    parts = {name for name, value in index.items() if isinstance(value, list) and value and value[0]}
    kind = index.get("_class_name", "pipeline")
    if others := sorted(parts - {"unet", "scheduler"}):
        latent = "vae" in parts or "vqvae" in parts
        why = (
            "it diffuses latents, and guidance models see pixels"
            if latent
            else "only pipelines of an unconditional UNet and a scheduler are generators"
        )
        raise GuidelensError(f"{directory} is a {kind} with {', '.join(others)}: {why}")


def _scheduler_file(directory: Path, given: Path | None) -> Path:
    if given is not None:
        return given / SCHEDULER if given.is_dir() else given
    places = [
        directory / "scheduler" / SCHEDULER,
        directory / SCHEDULER,
        directory.parent / "scheduler" / SCHEDULER,
    ]
    for place in places:
        if place.is_file():
            return place
    raise GuidelensError(
        f"{directory} has no {SCHEDULER}, which says what the network was trained with: give its pipeline, or"
        " diffusers:path=DIR,scheduler=FILE"
    )


def _has_safetensors(network: Path, variant: str | None) -> bool:
    """Whether the weights are safetensors, by the names that diffusers gives them (shards included).

    :raises GuidelensError: there are no weights.
    """
    middle = "" if variant is None else f".{variant}"
    stem = f"{WEIGHTS}{middle}"
    for suffix, is_safe in ((".safetensors", True), (".bin", False)):
        names = (f"{stem}{suffix}", f"{WEIGHTS}{suffix}.index{middle}.json", f"{stem}{suffix}.index.json")
        if any((network / name).is_file() for name in names):
            return is_safe
    present = sorted(p.name for p in network.iterdir() if p.suffix in (".safetensors", ".bin", ".ckpt"))
    found = f"; it has {', '.join(present)}" if present else ""
    raise GuidelensError(f"{network} holds no weights called {stem}.safetensors or {stem}.bin{found}")


def _read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise GuidelensError(f"there is no {path}, {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GuidelensError(f"cannot read {path}, {what}: {error}") from error
    if not isinstance(content, dict):
        raise GuidelensError(f"{path} is no {what.removeprefix('the ')}: it must hold a JSON object")
    return content


def _snapshot(hub_id: str, *, revision: str | None, unet: str, subfolder: str | None, download: bool) -> Path:
    """Return the directory of a hub repository in the Hugging Face cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    below = "" if subfolder is None else f"{subfolder}/"
    folders = [below, f"{below}{unet}/", f"{below}scheduler/"]
    patterns = [f"{folder}*.json" for folder in folders]
    weights = [f"{folder}{WEIGHTS}*" for folder in folders]
    try:
        found = Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns + weights, local_files_only=True
            )
        )
        if not download or _complete(found / below, unet):
            return found
    except LocalEntryNotFoundError:
        if not download:
            at = "" if revision is None else f" at revision {revision}"
            raise GuidelensError(
                f"{hub_id} is no directory here, and not in the Hugging Face cache{at}; to download it, say "
                f"diffusers:path={hub_id},download=true"
            ) from None
    try:
        safe = [pattern + ".safetensors" for pattern in weights]
        found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns + safe))
        if not _complete(found / below, unet):
            older = [f"{folder}{WEIGHTS}.bin" for folder in folders]
            found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns + older))
    except Exception as error:  # whatever the network, the hub or the disk says
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot download {hub_id} from the Hugging Face hub: {reason}") from error
    return found


def _complete(directory: Path, unet: str) -> bool:
    """Whether weights of any kind are there."""
    folders = [folder for folder in (directory / unet, directory) if folder.is_dir()]
    return any(path.suffix in (".safetensors", ".bin") for folder in folders for path in folder.iterdir())
