"""Find the architecture, preprocessing, weights and tokenizer of a model by its name.

A name is one of:

- an architecture of open_clip;
- a repository on the Hugging Face hub, ``hf-hub:OWNER/NAME``;
- a directory with the layout of such a repository (``open_clip_config.json`` beside the weights) or of
  transformers' CLIP (``config.json``);
- a JSON file with a configuration.

The hub is asked only if the user named a repository there, or weights that are published there.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.quiet import quiet
from guidelens.weights import weights_in

from .hub import fetch_hub, short_reason
from .hugging_face import PREPROCESSOR_FILE, is_transformers, model_config, preprocess_config
from .open_clip_import import import_open_clip
from .siglip import ENTRY

logger = logging.getLogger("guidelens.open_clip")

HUB_PREFIX = "hf-hub:"
LOCAL_PREFIX = "local-dir:"
"""open_clip's own prefix of a directory."""
HUB = "https://huggingface.co"
CONFIG_FILE = "open_clip_config.json"
HF_CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "tokenizer.model")
"""transformers can read a tokenizer from a directory with one of these files."""


@dataclass(frozen=True)
class Source:
    """Everything that is needed to build a model.

    :param name: name of the model in messages.
    :param config: open_clip's model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``, ...).
    :param preprocess: open_clip's preprocessing configuration, without the size.
    :param weights: returns the file with the weights, and fetches it first if the user asked for that.
    :param tokenizer: a directory with a Hugging Face tokenizer, in place of the one that ``config`` names.
    :param online: the user named a model on the hub, so the tokenizer may be fetched from there.
    """

    name: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    weights: Callable[[], Path]
    tokenizer: Path | None = None
    online: bool = False

    def with_changes(self, *, quick_gelu: bool | None, image_size: int | None) -> Source:
        """Return a copy with another activation or image size. None keeps the configured value."""
        config = deepcopy(dict(self.config))
        if ENTRY in config and (quick_gelu is not None or image_size is not None):
            option = "image_size" if quick_gelu is None else "quick_gelu"
            raise UsageError(
                f"leave out {option}: {self.name} is a SigLIP of transformers, which has its own"
            )
        if quick_gelu is not None:
            config["quick_gelu"] = quick_gelu
        if image_size is not None:
            vision = config["vision_cfg"]
            if image_size < 1:
                raise UsageError(f"image_size must be positive, not {image_size}")
            if vision.get("timm_model_name"):
                raise UsageError(
                    f"leave out image_size: {self.name} has an image tower of timm, whose size is fixed"
                )
            vision["image_size"] = image_size
        return replace(self, config=config)


def find_source(
    model: str,
    *,
    pretrained: str = "",
    checkpoint: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Source:
    """Find a model by name. Only files that the user names, by a tag or a hub id, are fetched.

    :param model: a name as the module describes it.
    :param pretrained: a tag of open_clip for that architecture. With ``checkpoint`` nothing is fetched, and the tag
        gives the preprocessing and activation of the file.
    :param checkpoint: a file with the weights.
    :param tokenizer: a directory with a Hugging Face tokenizer.
    :raises UsageError: a name is unknown, or options do not fit together.
    :raises GuidelensError: a file is missing or unreadable, or cannot be fetched.
    """
    weights = Path(checkpoint).expanduser() if checkpoint else None
    open_clip = import_open_clip()
    name = model.replace("/", "-")  # open_clip accepts ViT-B/32 as well
    if model.startswith(HUB_PREFIX):
        if pretrained or weights:
            raise UsageError(f"{model} has its own weights: leave out pretrained and checkpoint")
        source = _from_hub(model.removeprefix(HUB_PREFIX))
    elif name in open_clip.list_models():
        source = _from_name(name, pretrained, weights)
    elif pretrained:
        raise UsageError(f"pretrained={pretrained} needs an architecture of open_clip, but {_unknown(model)}")
    elif (path := Path(model.removeprefix(LOCAL_PREFIX)).expanduser()).exists():
        source = _from_path(path, weights)
    elif model.startswith(LOCAL_PREFIX):
        raise GuidelensError(f"there is no directory {path}")
    else:
        raise UsageError(f"{_unknown(model)}, a directory or a file")
    if tokenizer is None:
        return source
    if not source.config["text_cfg"].get("hf_tokenizer_name"):
        raise UsageError(f"{source.name} uses CLIP's own tokenizer: leave out tokenizer")
    directory = Path(tokenizer).expanduser()
    if not directory.is_dir():
        raise GuidelensError(f"there is no tokenizer directory {directory}")
    return replace(source, tokenizer=directory)


def _unknown(model: str) -> str:
    names = import_open_clip().list_models()
    lowered = {name.lower(): name for name in names}
    near = [lowered[found] for found in difflib.get_close_matches(model.lower(), lowered, n=3)]
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"{model!r} is not an architecture of open_clip{hint}"


def _from_name(name: str, pretrained: str, weights: Path | None) -> Source:
    open_clip = import_open_clip()
    tags = open_clip.list_pretrained_tags_by_model(name)
    config = open_clip.get_model_config(name)
    if not pretrained:
        if weights is None:
            raise UsageError(
                f"{name} needs weights: give checkpoint=FILE, or pretrained=TAG to fetch some"
                f" ({', '.join(tags) or 'open_clip has none for it'})"
            )
        return Source(name, config, _shared_preprocess(name, tags), lambda: weights)
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        raise UsageError(
            f"open_clip has no weights {pretrained!r} for {name}; it has {', '.join(tags) or 'none at all'}"
            + ("; give a file as checkpoint=FILE" if Path(pretrained).exists() else "")
        )
    if tag.get("quick_gelu") and not config.get("quick_gelu"):
        logger.info("%s of %s was trained with QuickGELU; using QuickGELU", pretrained, name)
        config["quick_gelu"] = True
    if weights is not None:
        return Source(name, config, tag, lambda: weights)
    return Source(name, config, tag, lambda: _fetch_tag(name, pretrained, tag), online=True)


def _shared_preprocess(name: str, tags: list[str]) -> Mapping[str, Any]:
    """Return the preprocessing that all published weights of an architecture share, or else open_clip's default."""
    open_clip = import_open_clip()
    keys = ("mean", "std", "interpolation", "resize_mode")
    known = [{key: open_clip.get_pretrained_cfg(name, tag).get(key) for key in keys} for tag in tags]
    return known[0] if known and all(other == known[0] for other in known) else {}


def _fetch_tag(name: str, pretrained: str, tag: Mapping[str, Any]) -> Path:
    address = f"{HUB}/{tag['hf_hub']}" if tag.get("hf_hub") else tag.get("url", "")
    try:
        if tag.get("hf_hub"):
            # OWNER/NAME/FILE, or OWNER/NAME/ for the usual files
            owner, repository, file = tag["hf_hub"].split("/", 2)
            files = (str(Path(file).with_suffix(".safetensors")), file) if file else WEIGHTS_FILES
            return fetch_hub(f"{owner}/{repository}", files)
        with quiet():
            return Path(import_open_clip().download_pretrained(dict(tag)))
    except Exception as error:  # the network, the hub and the cache raise many types
        raise GuidelensError(
            f"cannot fetch the weights {pretrained!r} of {name} from {address} ({short_reason(error)}); where there "
            f"is a network, download {WEIGHTS_FILES[0]} (or the .bin) from there, and give "
            f"open-clip:model={name},pretrained={pretrained},checkpoint=FILE"
        ) from error


def _from_hub(repository: str) -> Source:
    def fetch(*files: str) -> Path:
        try:
            return fetch_hub(repository, files)
        except Exception as error:  # the same
            raise GuidelensError(
                f"cannot fetch {files[0]} of {repository} from the Hugging Face hub ({short_reason(error)}); where "
                f"there is a network, download {CONFIG_FILE}, {WEIGHTS_FILES[0]} (or the .bin) and the tokenizer's "
                f"files, if any, from {HUB}/{repository} into one directory, and give open-clip:model=DIRECTORY"
            ) from error

    model, preprocess = _read_config(fetch(CONFIG_FILE))
    name = f"{HUB_PREFIX}{repository}"
    return Source(name, model, preprocess, lambda: fetch(*WEIGHTS_FILES), online=True)


def _from_path(path: Path, weights: Path | None) -> Source:
    if path.is_file():
        if weights is None:
            raise UsageError(f"the configuration {path} needs weights: give checkpoint=FILE")
        model, preprocess = _read_config(path)
        return Source(str(path), model, preprocess, lambda: weights)
    config = next((path / name for name in (CONFIG_FILE, HF_CONFIG_FILE) if (path / name).is_file()), None)
    if config is None:
        raise GuidelensError(
            f"the directory {path} holds no {CONFIG_FILE} or {HF_CONFIG_FILE}, so it is not a model"
        )
    model, preprocess = _read_config(config)
    of_open_clip = config.name == CONFIG_FILE
    found = weights or (None if of_open_clip else weights_in(path)) or weights_in(path, WEIGHTS_FILES)
    if found is None:
        wanted = WEIGHTS_FILES if of_open_clip else ("model.safetensors", "pytorch_model.bin")
        raise GuidelensError(f"the directory {path} holds no {' or '.join(wanted)}: give checkpoint=FILE")
    tokenizer = path if any((path / name).is_file() for name in TOKENIZER_FILES) else None
    return Source(str(path), model, preprocess, lambda: found, tokenizer)


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configurations of model and preprocessing in a file of the hub, of an architecture or transformers."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and is_transformers(config):
            beside = path.with_name(PREPROCESSOR_FILE)
            settings = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
            return model_config(config, str(path)), preprocess_config(settings)
        model = config.get("model_cfg", config)
        complete = all(isinstance(model.get(part), dict) for part in ("vision_cfg", "text_cfg"))
        preprocess = dict(config.get("preprocess_cfg") or {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise GuidelensError(f"cannot read {path} as a model configuration: {error}") from error
    if not complete or "embed_dim" not in model:
        raise GuidelensError(
            f"{path} is not a model configuration: it lacks embed_dim, vision_cfg or text_cfg"
        )
    return model, preprocess
