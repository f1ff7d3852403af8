"""Register open_clip's models as the guidance model ``open-clip`` and the metric ``clip-score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .guidance import OpenClipGuidance
    from .metrics import ClipScore

REQUIRES = ("open_clip",)


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``open-clip``."""
    register(
        "open-clip",
        open_clip,
        summary="CLIP and SigLIP (ITC) and CoCa (ITC and CAP) of open-clip-torch",
        requires=REQUIRES,
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer ``clip-score``."""
    register(
        "clip-score",
        clip_score,
        summary="CLIP score: 100 x cosine of picture and prompt, with a model of open-clip-torch",
        requires=REQUIRES,
    )


def open_clip(
    model: str = "ViT-B-32",
    pretrained: str = "",
    checkpoint: Path | None = None,
    tokenizer: Path | None = None,
    itc: Literal["cosine", "sigmoid"] = "cosine",
    temperature: float | Literal["learned"] | None = None,
    templates: str = "none",
    quick_gelu: bool | None = None,
    image_size: int | None = None,
    key: str | None = None,
    weights: Literal["float32", "bfloat16", "float16"] = "float32",
) -> OpenClipGuidance:
    """Build the guidance model; the parameters are its options on the command line.

    :param model: an architecture of open_clip, hf-hub:OWNER/NAME, a model directory, or a JSON configuration.
    :param pretrained: open_clip's tag of the weights, to fetch them or to say what checkpoint holds.
    :param checkpoint: a file with the weights: .safetensors, PyTorch's, or OpenAI's TorchScript.
    :param tokenizer: a directory with the Hugging Face tokenizer, for models that have one.
    :param itc: -cos/T, or SigLIP's -log sigmoid(cos/T + b).
    :param temperature: T, or learned for the model's own; default: 1 with cosine, learned with sigmoid.
    :param templates: average the features of these sentences for ITC: none, imagenet, simple, or a file.
    :param quick_gelu: the checkpoint was trained with QuickGELU; default: as configuration or tag says.
    :param image_size: side in pixels of the network's input; default: the model's.
    :param key: the entry of checkpoint to read, such as ema, if it holds several networks.
    :param weights: precision in which the weights are kept, and the model computes; half precision halves the memory.
    :raises UsageError: no weights are given, or options do not fit together.
    :raises GuidelensError: a file is missing, unreadable, or of another model.
    """
    from guidelens.networks import DTYPES

    from .guidance import OpenClipOptions, load_open_clip
    from .templates import read_templates

    options = OpenClipOptions(itc_mode=itc, temperature=temperature, templates=read_templates(templates))
    return load_open_clip(
        model,
        pretrained=pretrained,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        quick_gelu=quick_gelu,
        image_size=image_size,
        key=key,
        options=options,
        weights=DTYPES[weights],
    )


def clip_score(
    model: str,
    pretrained: str = "",
    checkpoint: Path | None = None,
    tokenizer: Path | None = None,
    quick_gelu: bool | None = None,
    device: str = "auto",
    key: str | None = None,
) -> ClipScore:
    """Build the metric. The model has no default, because scores of different models are not comparable.

    :param model: an architecture of open_clip, hf-hub:OWNER/NAME, a model directory, or a JSON configuration.
    :param pretrained: open_clip's tag of the weights, to fetch them or to say what checkpoint holds.
    :param checkpoint: a file with the weights: .safetensors, PyTorch's, or OpenAI's TorchScript.
    :param tokenizer: a directory with the Hugging Face tokenizer, for models that have one.
    :param quick_gelu: the checkpoint was trained with QuickGELU; default: as configuration or tag says.
    :param device: device of the model: auto, cpu, cuda, cuda:N or mps.
    :param key: the entry of checkpoint to read, such as ema, if it holds several networks.
    :raises UsageError: no weights are given, or options do not fit together.
    :raises GuidelensError: a file is missing, unreadable, or of another model.
    """
    from guidelens.networks import resolve_device

    from .guidance import load_open_clip
    from .metrics import ClipScore

    where = resolve_device(device)
    loaded = load_open_clip(
        model,
        pretrained=pretrained,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        quick_gelu=quick_gelu,
        key=key,
    )
    return ClipScore(loaded.to(where))
