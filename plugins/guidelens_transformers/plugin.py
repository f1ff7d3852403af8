"""Register models of the transformers library as the guidance model ``hf`` and the metric ``detect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from guidelens.errors import UsageError
from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .detect import DetectMetric
    from .guidance import TransformersGuidance

REQUIRES = ("torch", "torchvision", "transformers")
INSTALL = ("guidelens[transformers]",)


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``hf``."""
    register(
        "hf",
        hf,
        summary="vision-language models of transformers: CLIP, SigLIP, BLIP, BLIP-2 and models that answer in words",
        requires=REQUIRES,
        install=INSTALL,
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer ``detect``."""
    register(
        "detect",
        detect,
        summary="objects, counts, places and colours of a prompt by a detector of transformers, as GenEval does",
        requires=REQUIRES,
        install=INSTALL,
    )


def hf(
    model: Annotated[str, "path"],
    revision: str | None = None,
    download: bool = False,
    itc: Literal["cosine", "sigmoid"] = "cosine",
    temperature: float | Literal["learned"] | None = None,
    caption: str = "",
    question: str = "",
    yes: str = "",
    no: str = "",
    weights: Literal["float32", "bfloat16", "float16"] = "float32",
) -> TransformersGuidance:
    """Build the guidance model; the parameters are its options on the command line.

    :param model: the directory of a model, or its id on the Hugging Face hub, such as ``openai/clip-vit-base-patch32``.
    :param revision: of a hub id: branch, tag or commit.
    :param download: fetch a hub id that is not in the Hugging Face cache; otherwise nothing is downloaded.
    :param itc: -cos/T, or SigLIP's -log sigmoid(cos/T + b).
    :param temperature: T, or learned for the model's own; default: 1 with cosine, learned with sigmoid.
    :param caption: the instruction that cap answers; default: "Describe this image in one sentence."
    :param question: what vqa asks, with {} for the prompt; default: 'Does this picture show "{}"?'
    :param yes: the answer whose probability vqa takes; default: Yes (PaliGemma: yes).
    :param no: the other answer; vqa is then -log of p(yes) / (p(yes) + p(no)).
    :param weights: precision in which the weights are kept, and the model computes; half precision halves the memory.
    :raises UsageError: an option is out of range, or does not fit the model.
    :raises GuidelensError: a file is missing or unreadable, or the model is not of a supported family.
    """
    from guidelens.networks import DTYPES

    from .files import locate
    from .loading import load_guidance
    from .options import CAPTION, QUESTION, ObjectiveOptions

    options = ObjectiveOptions(itc, temperature, caption or CAPTION, question or QUESTION, yes, no)
    directory = locate(model, revision=revision, download=download)
    return load_guidance(directory, options, source=f"hf:model={model}", weights=DTYPES[weights])


def detect(
    model: Annotated[str, "path"],
    revision: str | None = None,
    download: bool = False,
    threshold: float = 0.3,
    device: str = "auto",
) -> DetectMetric:
    """Build the metric. The model has no default, because scores of different detectors are not comparable.

    :param model: the directory of an OWL-ViT, OWLv2 or Grounding DINO, or its id on the Hugging Face hub.
    :param revision: of a hub id: branch, tag or commit.
    :param download: fetch a hub id that is not in the Hugging Face cache; otherwise nothing is downloaded.
    :param threshold: least score of a box, between 0 and 1.
    :param device: device of the model: auto, cpu, cuda, cuda:N or mps.
    :raises UsageError: an option is out of range, or does not fit the model.
    :raises GuidelensError: a file is missing or unreadable, or the model is not a detector.
    """
    from guidelens.networks import resolve_device

    from .detect import DetectMetric, load_detector
    from .files import locate

    if not 0 < threshold < 1:
        raise UsageError(f"threshold must be between 0 and 1, not {threshold}")
    where = resolve_device(device)
    source = f"detect:model={model}"
    directory = locate(model, revision=revision, download=download, component="detect")
    return DetectMetric(load_detector(directory, threshold, where, source=source))
