"""Load a model of transformers from a directory, as one of the supported kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from guidelens.errors import GuidelensError
from guidelens.quiet import quiet

from .guidance import TransformersGuidance, as_guidance
from .networks import Network
from .options import ObjectiveOptions

OLDEST = 5
"""First major version of transformers whose image processors are differentiable."""


def load_guidance(
    directory: Path,
    options: ObjectiveOptions | None = None,
    *,
    source: str = "",
    weights: torch.dtype = torch.float32,
) -> TransformersGuidance:
    """Load a model and its processor from a directory, as ``save_pretrained`` writes them.

    Code in the directory is never run: only models that transformers itself has can be loaded.

    :param source: the model, as error messages name it; default: the directory.
    :param weights: the dtype in which the weights are kept.
    :raises GuidelensError: a file is missing or unreadable, or the model is not of a supported kind.
    """
    check_version()
    source, options = source or str(directory), options or ObjectiveOptions()
    config = read_config(directory, source)
    model_class, network_class = _classes(config, source)
    with reading(source):
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise GuidelensError(
                f"{source} has no processor for pictures and text: preprocessor_config.json or the tokenizer is missing"
            )
        loaded = torch.float32 if network_class.exact_constants else weights
        model = model_class.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, dtype=loaded
        )
    return as_guidance(network_class(model, processor, options, source), weights)


def read_config(directory: Path, source: str) -> dict[str, Any]:
    """Return ``config.json``.

    :raises GuidelensError: it is missing or unreadable.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise GuidelensError(f"{source} holds no config.json, so it is not a model of transformers")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GuidelensError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise GuidelensError(f"{path} names no model_type, so it is not a model of transformers")
    return config


def _classes(config: dict[str, Any], source: str) -> tuple[Any, type[Network]]:
    """Return the class of the model and the class that computes losses with it.

    :raises GuidelensError: the model is not of a supported kind.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    from .answers import AnsweringModel
    from .blip import BlipCaptioning, BlipRetrieval
    from .blip2 import Blip2Retrieval
    from .dual import DualEncoder

    by_name: dict[str, type[Network]] = {
        "BlipForImageTextRetrieval": BlipRetrieval,
        "BlipForConditionalGeneration": BlipCaptioning,
        "Blip2ForImageTextRetrieval": Blip2Retrieval,
    }
    kind = config["model_type"]
    named = next(iter(config.get("architectures") or ()), "")
    if named in by_name:
        return getattr(transformers, named), by_name[named]
    if not kind.startswith(("blip", "instructblip")):
        if kind in modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
            return transformers.AutoModel, DualEncoder
        if kind in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            return transformers.AutoModelForImageTextToText, AnsweringModel
    raise GuidelensError(
        f"{source} is a {named or kind} of transformers, which offers none of itc, itm, cap and vqa here; "
        "docs/photographs.md lists the supported families"
    )


def check_version() -> None:
    """:raises GuidelensError: transformers is older than 5."""
    import transformers

    if int(transformers.__version__.partition(".")[0]) < OLDEST:
        raise GuidelensError(
            f"transformers {transformers.__version__} is too old: its image processors keep no gradients; "
            f"pip install 'transformers>={OLDEST}'"
        )


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Read files of a model without the library's warnings and progress bars. Report any failure in one line."""
    import transformers
    from transformers.utils import logging

    before = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet():
            yield
    except GuidelensError:
        raise
    except Exception as error:  # the library, a tokenizer and a damaged file raise many types
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GuidelensError(
            f"cannot load {source} with transformers {transformers.__version__}: {reason[:300]}"
        ) from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
