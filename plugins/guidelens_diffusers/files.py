"""Find the files of a pipeline, and read and check the configuration of its network, scheduler and decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import weights_in

from .decoder import DECODERS, TINY
from .hub import INDEX, WEIGHTS, snapshot
from .networks import NETWORKS, TEXT_NETWORKS, kind_of

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_NETWORK_FOLDERS = ("unet", "transformer")
_DECODER_FOLDERS = ("vae", "vqvae")
_PARTS = re.compile(
    "unet.*|transformer|scheduler|vae|vqvae|text_encoder(_[23])?|tokenizer(_[23])?"
    "|safety_checker|feature_extractor|image_encoder"
)
"""Parts of pipelines that guidelens uses or ignores."""


@dataclass(frozen=True)
class ModelFiles:
    """A model of diffusers in a directory.

    :param kind: its class.
    :param config: its ``config.json``.
    :param variant: of its weights' file.
    :param weights: the file with its weights, or the index of their parts.
    """

    directory: Path
    kind: str
    config: Mapping[str, Any]
    variant: str | None
    weights: Path

    @property
    def safetensors(self) -> bool:
        """Whether the weights are safetensors; otherwise a ``.bin``, which is read with ``weights_only``."""
        return ".safetensors" in self.weights.name


@dataclass(frozen=True)
class PipelineFiles:
    """The checked files of a pipeline.

    :param directory: the pipeline's directory, with its text encoders if it has any.
    :param scheduler: the scheduler's configuration.
    :param decoder: of latents; None for a network of pixels.
    """

    directory: Path
    network: ModelFiles
    scheduler: Mapping[str, Any]
    decoder: ModelFiles | None


def locate(
    path: str,
    *,
    revision: str | None,
    unet: str | None,
    subfolder: str | None,
    download: bool,
    option: str = "path",
) -> Path:
    """Return the directory of a pipeline, given as directory or hub id.

    :param download: download a hub id that is not in the cache. If False, the hub is never contacted.
    :param option: name of the option for ``path`` in messages.
    :raises UsageError: the options do not fit ``path``.
    :raises GuidelensError: the pipeline is neither a directory nor in the cache, or the download failed.
    """
    directory = Path(path).expanduser()
    if directory.exists() or not _HUB_ID.fullmatch(path):
        if option == "path" and (revision is not None or download):
            surplus = "revision" if revision is not None else "download"
            raise UsageError(f"diffusers:path={path} is not a hub id: leave out the option {surplus}")
        if not directory.is_dir():
            raise GuidelensError(f"diffusers:{option}={path}: there is no such directory")
    else:
        directory = snapshot(path, revision=revision, unet=unet, subfolder=subfolder, download=download)
    if subfolder is None:
        return directory
    if not (directory / subfolder).is_dir():
        raise GuidelensError(f"diffusers:path={path} has no directory {subfolder} (subfolder)")
    return directory / subfolder


def read_pipeline(
    directory: Path,
    *,
    unet: str | None = None,
    variant: str | None = None,
    scheduler: Path | None = None,
    decoder: Path | None = None,
) -> PipelineFiles:
    """Read the configurations of a pipeline, or of a network alone if ``scheduler`` is given.

    :param unet: the network's directory in it; None: the usual one, or ``directory`` itself.
    :param scheduler: a configuration, or its directory, instead of the pipeline's own.
    :param decoder: the directory of an autoencoder, instead of the pipeline's own.
    :raises UsageError: the network's directory does not exist.
    :raises GuidelensError: a file is missing or unreadable, or the pipeline is not one that guidelens can use.
    """
    index = _checked_index(directory)
    place = _network_folder(directory, unet)
    config = _read_json(place / CONFIG, "the configuration of a network")
    kind = kind_of(config)
    if kind not in NETWORKS:
        raise GuidelensError(f"{place / CONFIG} describes a {kind}; guidelens reads {', '.join(NETWORKS)}")
    if kind in TEXT_NETWORKS and not (directory / "text_encoder").is_dir():
        raise GuidelensError(
            f"{place / CONFIG} describes a {kind}, which is conditioned on text: give its whole pipeline, whose"
            f" text_encoder reads the empty prompt ({directory} has none)"
        )
    return PipelineFiles(
        directory=directory,
        network=ModelFiles(place, kind, config, variant, _weights_file(place, variant)),
        scheduler=_read_json(_scheduler_file(directory, scheduler), "the configuration of a scheduler"),
        decoder=_decoder_files(directory, index, variant, decoder),
    )


def _network_folder(directory: Path, unet: str | None) -> Path:
    if unet is None:
        places = (directory / name for name in _NETWORK_FOLDERS)
        return next((place for place in places if place.is_dir()), directory)
    if (directory / unet / CONFIG).is_file():
        return directory / unet
    there = sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}") if _holds_network(path))
    if (directory / CONFIG).is_file():
        there.append("the network of the directory itself (leave out unet)")
    found = f"there is {', '.join(there)}" if there else "there is none"
    raise UsageError(f"{directory} has no network in a directory {unet!r} (unet); {found}")


def _holds_network(config: Path) -> bool:
    try:
        return kind_of(_read_json(config, "")) in NETWORKS
    except GuidelensError:
        return False


def _checked_index(directory: Path) -> set[str]:
    """Return the parts that a pipeline's index names, or nothing if there is no index.

    :raises GuidelensError: the index names a part that guidelens cannot ignore.
    """
    if not (directory / INDEX).is_file():
        return set()
    index = _read_json(directory / INDEX, "a pipeline's index")
    parts = {name for name, value in index.items() if isinstance(value, list) and value and value[0]}
    kind = index.get("_class_name", "pipeline")
    if others := sorted(name for name in parts if not _PARTS.fullmatch(name)):
        raise GuidelensError(
            f"{directory} is a {kind} with {', '.join(others)}: guidelens uses pipelines of a network, a scheduler,"
            " a decoder of latents and text encoders"
        )
    return parts


def _decoder_files(
    directory: Path, index: set[str], variant: str | None, given: Path | None
) -> ModelFiles | None:
    """Return the given decoder or else the pipeline's own, or None if there is no decoder."""
    place = given or next((directory / n for n in _DECODER_FOLDERS if (directory / n).is_dir()), None)
    if place is None:
        if missing := sorted(index & set(_DECODER_FOLDERS)):
            raise GuidelensError(
                f"{directory} lacks its decoder of latents: it has no directory {missing[0]}"
            )
        return None
    config = _read_json(place / CONFIG, "the configuration of an autoencoder")
    kind = str(config.get("_class_name", TINY))
    if kind not in DECODERS:
        raise GuidelensError(
            f"{place / CONFIG} describes a {kind}; guidelens decodes with {', '.join(DECODERS)}"
        )
    own = variant if given is None else None
    return ModelFiles(place, kind, config, own, _weights_file(place, own))


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


def _weights_file(network: Path, variant: str | None) -> Path:
    """Return the file with the weights, or the index of their parts, by the names that diffusers gives them.

    :raises GuidelensError: there are no weights.
    """
    middle = "" if variant is None else f".{variant}"
    stem = f"{WEIGHTS}{middle}"
    for suffix in (".safetensors", ".bin"):
        names = (f"{stem}{suffix}", f"{WEIGHTS}{suffix}.index{middle}.json", f"{stem}{suffix}.index.json")
        if (found := weights_in(network, names)) is not None:
            return found
    present = sorted(p.name for p in network.iterdir() if p.suffix in (".safetensors", ".bin", ".ckpt"))
    held = f"; it has {', '.join(present)}" if present else ""
    raise GuidelensError(f"{network} holds no weights called {stem}.safetensors or {stem}.bin{held}")


def _read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise GuidelensError(f"there is no {path}, {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GuidelensError(f"cannot read {path}, {what}: {error}") from error
    if not isinstance(content, dict):
        raise GuidelensError(f"{path} is not a {what.removeprefix('the ')}: it must hold a JSON object")
    return content
