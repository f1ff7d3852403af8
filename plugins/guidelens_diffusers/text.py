"""The empty prompt of text-conditional pipelines, encoded once by their own text encoders."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from guidelens.errors import GuidelensError
from guidelens.weights.reading import format_of
from torch import Tensor

from .networks import FLUX, SD3, TEXT_UNET

SEEN_TEXT = (
    "this generator has seen text: it was trained on captioned pictures, and draws from the empty prompt here; what its"
    " pictures show of a prompt may come from that training as well as from the guidance"
)
"""A note in the results of such a generator."""

_PIPELINES = {TEXT_UNET: "StableDiffusionPipeline", SD3: "StableDiffusion3Pipeline", FLUX: "FluxPipeline"}


@torch.no_grad()
def empty_prompt(pipeline: Any) -> dict[str, Tensor]:
    """Return the text encoders' embeddings of the empty prompt, by the names of the networks' inputs.

    :param pipeline: a StableDiffusionPipeline, StableDiffusion3Pipeline or FluxPipeline of diffusers.
    """
    name = type(pipeline).__name__
    if name == _PIPELINES[TEXT_UNET]:
        prompt, _ = pipeline.encode_prompt("", "cpu", 1, False)
        return {"prompt": prompt.detach().float()}
    if name == _PIPELINES[SD3]:
        prompt, _, pooled, _ = pipeline.encode_prompt(
            "", "", "", device="cpu", do_classifier_free_guidance=False
        )
    elif name == _PIPELINES[FLUX]:
        prompt, pooled, _ = pipeline.encode_prompt("", "", device="cpu")
    else:
        raise GuidelensError(
            f"a {name} is not supported; its text encoders are not those of {', '.join(_PIPELINES)}"
        )
    return {"prompt": prompt.detach().float(), "pooled": pooled.detach().float()}


def read_empty_prompt(directory: Path, kind: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Load the text encoders of a pipeline's directory, encode the empty prompt, and drop them.

    :param kind: the class of the pipeline's network.
    :param config: the configuration of that network.
    :raises GuidelensError: there are no text encoders, or they cannot be loaded.
    """
    for file in sorted(directory.glob("text_encoder*/*.bin")):
        format_of(file, f"the text encoder of {directory}")  # refuses files that could unpack to any size
    try:
        import diffusers
        import transformers  # noqa: F401

        pipeline_class = getattr(diffusers, _PIPELINES[kind])
        absent = _components(pipeline_class) - _text_parts(directory)
        pipeline = pipeline_class.from_pretrained(
            str(directory), local_files_only=True, **dict.fromkeys(absent)
        )
        if kind == SD3 and pipeline.text_encoder_3 is None:
            # The pipeline gets the width of the missing encoder's zeros from its transformer, which is not loaded here.
            object.__setattr__(pipeline, "transformer", SimpleNamespace(config=SimpleNamespace(**config)))
        return empty_prompt(pipeline)
    except ImportError as error:
        raise GuidelensError(
            f"{directory} needs its text encoders, and these the package transformers: pip install transformers"
        ) from error
    except Exception as error:  # the libraries below can raise anything for a damaged file
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(
            f"cannot encode the empty prompt by the text encoders of {directory}: {reason}"
        ) from error


def _components(pipeline_class: Any) -> set[str]:
    """Return the names of a pipeline's components: the constructor's parameters without a default value other than
    None."""
    parameters = list(inspect.signature(pipeline_class.__init__).parameters.values())[1:]
    return {p.name for p in parameters if p.default in (None, inspect.Parameter.empty)}


def _text_parts(directory: Path) -> set[str]:
    """Return the names of a pipeline's text encoders and tokenizers."""
    folders = [path for kind in ("text_encoder", "tokenizer") for path in directory.glob(f"{kind}*")]
    return {path.name for path in folders if path.is_dir()}
