"""Register pipelines of the diffusers library as the generator ``diffusers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .generator import DiffusersGenerator


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``diffusers``."""
    register(
        "diffusers",
        diffusers,
        summary="an unconditional UNet2DModel pipeline of the diffusers library",
        requires=("torch", "diffusers", "safetensors"),
    )


def diffusers(
    path: str,
    revision: str | None = None,
    subfolder: str | None = None,
    unet: str = "unet",
    variant: str | None = None,
    scheduler: Path | None = None,
    class_label: int | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> DiffusersGenerator:
    """Build the generator; the parameters are its options on the command line.

    :param path: the directory of a pipeline (with ``unet`` and ``scheduler``) or of a UNet2DModel alone; or a
        model id of the Hugging Face hub, such as ``google/ddpm-celebahq-256``.
    :param revision: of a hub id: branch, tag or commit.
    :param subfolder: where in the directory or repository the pipeline is.
    :param unet: the network's directory in the pipeline; ``unet_ema``, say, where training kept an average.
    :param variant: of the weights' file: ``fp16`` reads ``diffusion_pytorch_model.fp16.safetensors``.
    :param scheduler: a ``scheduler_config.json``, or a directory that holds one, in place of the pipeline's.
    :param class_label: the class that a class-conditional network draws; needed by those, and by no other.
    :param image_size: height and width in pixels; default: the network's own.
    :param download: fetch a hub id that is not in the Hugging Face cache; otherwise nothing is downloaded.
    :raises UsageError: options that do not fit the model.
    :raises GuidelensError: nothing is there, it cannot be read, or guidance cannot work with such a model.
    """
    from .files import locate
    from .generator import load_generator

    directory = locate(path, revision=revision, unet=unet, subfolder=subfolder, download=download)
    return load_generator(
        directory,
        unet=unet,
        variant=variant,
        scheduler=scheduler,
        class_label=class_label,
        image_size=image_size,
    )
