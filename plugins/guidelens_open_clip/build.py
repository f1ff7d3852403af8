"""Build the network and the tokenizer of a model, or say in one line what is missing for them."""

from __future__ import annotations

from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from guidelens.errors import GuidelensError

from .checkpoint import load_state, read_checkpoint
from .open_clip_import import import_open_clip, quiet
from .preprocess import Preprocess
from .sources import Source
from .text import Tokenizer

if TYPE_CHECKING:
    from torch import nn


def build(source: Source) -> tuple[nn.Module, Tokenizer, Preprocess]:
    """Return the network with its weights, its tokenizer and its preprocessing.

    :raises GuidelensError: something that the model needs is not there, or the weights are another model's.
    """
    model = build_network(source)
    tokenizer = build_tokenizer(source)
    weights = source.weights()  # last, since it may mean to fetch gigabytes
    load_state(model, read_checkpoint(weights), source=str(weights))
    size = getattr(model.visual, "image_size", None)
    preprocess = {**source.preprocess, **({"size": size} if size is not None else {})}
    return model, tokenizer, Preprocess.from_config(preprocess)


def build_network(source: Source) -> nn.Module:
    """Build the network that ``source.config`` describes, with random weights.

    :raises GuidelensError: timm or transformers lack what it is made of, or it is no such description.
    """
    open_clip = import_open_clip()
    config = deepcopy(dict(source.config))
    vision, text = config["vision_cfg"], config["text_cfg"]
    if vision.get("timm_model_name"):
        _check_timm(source.name, vision["timm_model_name"])
        vision["timm_model_pretrained"] = False  # its weights are part of the checkpoint
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(_text_model(source, text["hf_model_name"]))
        text["hf_model_pretrained"] = False  # likewise
    custom_text = config.pop("custom_text", False) or "hf_model_name" in text
    network = open_clip.CLIP if not custom_text else open_clip.CustomTextCLIP
    if custom_text and "multimodal_cfg" in config:
        network = open_clip.CoCa
    try:
        # Initialisation must not advance the caller's random numbers.
        with quiet(), torch.random.fork_rng(devices=[]):
            built: nn.Module = network(**config)
    except Exception as error:  # whatever an odd configuration makes it trip over
        raise GuidelensError(f"open_clip cannot build {source.name}: {_first_line(error)}") from error
    return built


def _check_timm(name: str, tower: str) -> None:
    """:raises GuidelensError: if this timm is none that open_clip works with, or does not know the tower."""
    timm = import_open_clip("timm_model").timm
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError:
        version = ""
    if timm is None:
        has = f"this environment has {version}" if version else "it is not installed"
        raise GuidelensError(
            f"{name} has an image tower of timm ({tower}), which needs timm 1.0 or newer; {has} (salesforce-lavis "
            'keeps it at 0.4.12: use an environment without LAVIS, and there pip install "timm>=1"), or choose a model '
            "whose towers are open_clip's own (ViT-B-32, RN50, coca_ViT-B-32, ...)"
        )
    if not timm.is_model(tower.partition(".")[0]):
        raise GuidelensError(
            f"{name} has the image tower {tower}, which timm {version} does not know; pip install --upgrade timm"
        )


def _text_model(source: Source, name: str) -> Path | str:
    """Return where the configuration of a Hugging Face text tower is: by the tokenizer, in the cache, on the hub."""
    if source.tokenizer is not None and (source.tokenizer / "config.json").is_file():
        return source.tokenizer
    if source.online:
        return name
    with quiet():
        from transformers.utils import cached_file

        try:
            return Path(cached_file(name, "config.json", local_files_only=True)).parent
        except Exception as error:  # its classes differ between versions
            raise GuidelensError(
                f"{source.name} reads text with the model {name}, whose config.json is not on this machine: put it "
                "beside the tokenizer's files and give tokenizer=DIRECTORY"
            ) from error


def build_tokenizer(source: Source) -> Tokenizer:
    """Return the tokenizer that ``source.config`` names, from the hub only if the user named something there.

    :raises GuidelensError: it is not on this machine, or transformers cannot read it.
    """
    open_clip = import_open_clip()
    text = source.config["text_cfg"]
    context: Any = text.get("context_length", 77)
    options = dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    try:
        if not name:
            built: Tokenizer = open_clip.SimpleTokenizer(context_length=context, **options)
            return built
        with quiet():
            hugging_face = import_open_clip("tokenizer").HFTokenizer
            if source.tokenizer is not None or not source.online:
                options["local_files_only"] = True
            return hugging_face(str(source.tokenizer or name), context_length=context, **options)
    except ModuleNotFoundError:  # the user is told which package to install
        raise
    except Exception as error:  # transformers and the hub raise many kinds
        where = f"from {source.tokenizer}" if source.tokenizer is not None else "here"
        raise GuidelensError(
            f"{source.name} reads text with the tokenizer {name}, which cannot be loaded {where} "
            f"({_first_line(error)}); put its files into a directory and give tokenizer=DIRECTORY"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
