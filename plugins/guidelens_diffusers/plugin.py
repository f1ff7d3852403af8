"""Register pipelines of the diffusers library as the generator ``diffusers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .generator import DiffusersGenerator


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``diffusers``."""
    register(
        "diffusers",
        diffusers,
        summary="a pipeline of the diffusers library: pixels, latents, flow matching, EDM",
        requires=("torch", "diffusers", "safetensors"),
    )


def diffusers(
    path: Annotated[str, "path"],
    revision: str | None = None,
    subfolder: str | None = None,
    unet: str | None = None,
    variant: str | None = None,
    scheduler: Path | None = None,
    decoder: str | None = None,
    class_label: int | None = None,
    image_size: int | None = None,
    key: str | None = None,
    download: bool = False,
) -> DiffusersGenerator:
    """Build the generator; the parameters are its options on the command line.

    :param path: the directory of a pipeline (with ``unet`` or ``transformer``, and ``scheduler``) or of a network
        alone; or a model id of the Hugging Face hub, such as ``google/ddpm-celebahq-256``.
    :param revision: branch, tag or commit of a hub id.
    :param subfolder: the pipeline's subfolder in the directory or repository.
    :param unet: the network's directory in the pipeline, such as ``unet_ema``. Default: ``unet`` or ``transformer``,
        else the directory itself.
    :param variant: variant of the weights: ``fp16`` reads ``diffusion_pytorch_model.fp16.safetensors``.
    :param scheduler: a ``scheduler_config.json``, or its directory, instead of the pipeline's.
    :param decoder: a directory or hub id of an autoencoder that decodes latents, instead of the pipeline's. The
        AutoencoderTiny ``madebyollin/taesd``, for example, needs less memory and gives coarser pictures.
    :param class_label: the class that a class-conditional network draws. A UNet needs it. A DiT draws its null class
        without it.
    :param image_size: height and width in pixels; default: the network's.
    :param key: the entry of the network's file to read, such as ``ema``, if it holds several networks.
    :param download: download a hub id that is not in the Hugging Face cache.
    :raises UsageError: options that do not fit the model.
    :raises GuidelensError: nothing is there, it cannot be read, or guidance cannot work with such a model.
    """
    from .files import locate
    from .loading import load_generator

    directory = locate(path, revision=revision, unet=unet, subfolder=subfolder, download=download)
    return load_generator(
        directory,
        unet=unet,
        variant=variant,
        scheduler=scheduler,
        decoder=None if decoder is None else _decoder(decoder, download),
        class_label=class_label,
        image_size=image_size,
        key=key,
    )


def _decoder(path: str, download: bool) -> Path:
    from .files import locate

    return locate(path, revision=None, unet=None, subfolder=None, download=download, option="decoder")
