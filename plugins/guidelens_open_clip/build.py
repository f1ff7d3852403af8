"""Build the network and the tokenizer of a model. An error says in one line what is missing."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from guidelens.errors import GuidelensError
from guidelens.quiet import quiet

from .checkpoint import Checkpoint, load_state, read_checkpoint
from .hub import cached_repository, fetch_hub, retries_unseen, short_reason
from .open_clip_import import import_open_clip
from .preprocess import Preprocess
from .siglip import ENTRY, build_siglip
from .sources import Source
from .text import Tokenizer

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("guidelens.open_clip")


def build(
    source: Source, *, key: str | None = None, quick_gelu: bool | None = None
) -> tuple[nn.Module, Tokenizer, Preprocess]:
    """Return the network with its weights, its tokenizer and its preprocessing.

    OpenAI's weights use QuickGELU, even if the configuration differs. A logit bias in the file is used.

    :param key: the entry of the file to read, if it holds several networks.
    :param quick_gelu: the activation that the user chose. None: decide by the file and its configuration.
    :raises GuidelensError: something that the model needs is missing, or the weights are of another model.
    """
    _check_timm(source)  # the cheapest check first
    tokenizer = build_tokenizer(source)
    model = build_network(source)
    weights = source.weights()  # last, as it may download gigabytes
    checkpoint = read_checkpoint(weights, key=key)
    fitted = _fitted(source, checkpoint, str(weights), quick_gelu)
    if fitted is not source:
        model = build_network(fitted)
    load_state(model, checkpoint.state, source=str(weights))
    size = getattr(model.visual, "image_size", None)
    preprocess = {**source.preprocess, **({"size": size} if size is not None else {})}
    return model, tokenizer, Preprocess.from_config(preprocess)


def _fitted(source: Source, checkpoint: Checkpoint, path: str, quick_gelu: bool | None) -> Source:
    """Return ``source`` with QuickGELU and a logit bias if the file has them and the configuration does not."""
    config: dict[str, Any] = {}
    if checkpoint.quick_gelu and not source.config.get("quick_gelu"):
        if quick_gelu is None:
            logger.warning("%s is one of OpenAI's files, trained with QuickGELU; using QuickGELU", path)
            config["quick_gelu"] = True
        else:
            logger.warning(
                "%s is one of OpenAI's files, trained with QuickGELU, but quick_gelu=false selects GELU", path
            )
    if "logit_bias" in checkpoint.state and source.config.get("init_logit_bias") is None:
        config["init_logit_bias"] = 0.0  # replaced by the value in the file
    return replace(source, config={**source.config, **config}) if config else source


def build_network(source: Source) -> nn.Module:
    """Build the network that ``source.config`` describes, with random weights.

    :raises GuidelensError: timm or transformers lack a part of it, or the configuration is invalid.
    """
    open_clip = import_open_clip()
    config = deepcopy(dict(source.config))
    vision, text = config["vision_cfg"], config["text_cfg"]
    _check_timm(source)
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False  # the checkpoint holds its weights
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(_text_model(source, text["hf_model_name"]))
        text["hf_model_pretrained"] = False  # the same
    custom_text = config.pop("custom_text", False) or "hf_model_name" in text
    network = open_clip.CLIP if not custom_text else open_clip.CustomTextCLIP
    if custom_text and "multimodal_cfg" in config:
        network = open_clip.CoCa
    if ENTRY in config:
        with quiet(), torch.random.fork_rng(devices=[]):
            return build_siglip(config[ENTRY], source.name)
    try:
        # Initialisation must not advance the caller's random numbers.
        with quiet(), torch.random.fork_rng(devices=[]):
            built: nn.Module = network(**config)
    except Exception as error:  # an odd configuration can raise anything
        raise GuidelensError(f"open_clip cannot build {source.name}: {_first_line(error)}") from error
    return built


def _check_timm(source: Source) -> None:
    """Check that timm can build the image tower, if it is one of timm's.

    :raises GuidelensError: timm is missing, too old for open_clip, or does not have the tower.
    """
    tower = source.config["vision_cfg"].get("timm_model_name")
    if not tower:
        return
    timm = import_open_clip("timm_model").timm
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError:
        version = ""
    if timm is None:
        has = f"this environment has {version}" if version else "it is not installed"
        raise GuidelensError(
            f"{source.name} has an image tower of timm ({tower}), which needs timm 1.0 or newer, but {has}: run "
            "pip install 'timm>=1' in an environment without LAVIS (which needs 0.4.12), or choose a model "
            "with open_clip's own towers (ViT-B-32, coca_ViT-B-32, ...)"
        )
    if not timm.is_model(tower.partition(".")[0]):
        raise GuidelensError(
            f"{source.name} has the image tower {tower}, which timm {version} does not have: run pip install -U timm"
        )


def _text_model(source: Source, name: str) -> Path:
    """Return a directory with the configuration of a Hugging Face text tower: the tokenizer's, or one of the cache."""
    if source.tokenizer is not None and (source.tokenizer / "config.json").is_file():
        return source.tokenizer
    try:
        return fetch_hub(name, ["config.json"], online=source.online).parent
    except Exception as error:  # huggingface_hub raises many types
        raise GuidelensError(
            f"{source.name} needs the text model {name}, whose config.json {_absence(source, error)}: put it "
            "beside the tokenizer's files and give tokenizer=DIRECTORY"
        ) from error


def build_tokenizer(source: Source) -> Tokenizer:
    """Return the tokenizer that ``source.config`` names. The hub is asked only if the user named a model there.

    :raises GuidelensError: it is not on this machine, or transformers cannot read it.
    """
    open_clip = import_open_clip()
    text = source.config["text_cfg"]
    options = {"context_length": text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {})}
    name = text.get("hf_tokenizer_name")
    if not name:
        built: Tokenizer = open_clip.SimpleTokenizer(**options)
        return built
    try:
        return _hugging_face_tokenizer(str(source.tokenizer or name), options, online=source.online)
    except ModuleNotFoundError:  # the caller reports which package to install
        raise
    except Exception as error:  # transformers and the hub raise many types
        reads = f"{source.name} needs the tokenizer {name}, which"
        if source.tokenizer is not None:
            raise GuidelensError(f"{reads} {source.tokenizer} does not hold: {_first_line(error)}") from error
        raise GuidelensError(
            f"{reads} {_absence(source, error)}: put its files into a directory and give tokenizer=DIRECTORY"
        ) from error


def _hugging_face_tokenizer(name: str, options: Mapping[str, Any], *, online: bool) -> Tokenizer:
    """Return the tokenizer of a directory or repository, from the hub's local cache if possible.

    A cached repository is read as a directory. Given its name, transformers would also ask for a ``config.json``,
    which tokenizers do not need.
    """
    hugging_face = import_open_clip("tokenizer").HFTokenizer
    found: Tokenizer
    with quiet(), retries_unseen():
        importlib.import_module("transformers")  # fail early if it is not installed
        if Path(name).is_dir():
            found = hugging_face(name, **options)
            return found
        try:
            found = hugging_face(str(cached_repository(name)), **options)
        except Exception:  # not in the cache, or incomplete; transformers raises many types
            if not online:
                raise
            found = hugging_face(name, **options)
    return found


def _absence(source: Source, error: Exception) -> str:
    return "is not on this machine" + (f" ({short_reason(error)})" if source.online else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
