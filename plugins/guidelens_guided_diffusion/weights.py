"""The checkpoints that OpenAI published with guided-diffusion, and one that was fine-tuned from them."""

from __future__ import annotations

from guidelens.weights import WeightsFile

_BASE = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_CITATION = "Dhariwal & Nichol (2021), Diffusion Models Beat GANs on Image Synthesis, NeurIPS"


def _published(
    name: str, filename: str, *, size: int | None = None, sha256: str | None = None
) -> WeightsFile:
    return WeightsFile(
        name=name,
        filename=filename,
        url=f"{_BASE}/{filename}",
        size=size,
        sha256=sha256,
        licence="MIT",  # of the repository that publishes them; its model card says what they are for
        citation=_CITATION,
        component="guidance model noisy-classifier" if "classifier" in name else "generator guided-diffusion",
    )


# OpenAI publishes neither sizes nor hashes. Other programs check one of the files, so its hash is known.
_FILES = (
    _published(
        "imagenet256-uncond",
        "256x256_diffusion_uncond.pt",
        size=2_211_383_297,
        sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
    ),
    _published("imagenet64", "64x64_diffusion.pt"),
    _published("imagenet128", "128x128_diffusion.pt"),
    _published("imagenet256", "256x256_diffusion.pt"),
    _published("imagenet512", "512x512_diffusion.pt"),
    WeightsFile(
        name="imagenet512-uncond",
        filename="512x512_diffusion_uncond_finetune_008100.pt",
        hub="lowlevelware/512x512_diffusion_unconditional_ImageNet/512x512_diffusion_uncond_finetune_008100.pt",
        sha256="9c111ab89e214862b76e1fa6a1b3f1d329b1a88281885943d2cdbe357ad57648",
        licence="not stated",
        citation=f"Katherine Crowson, fine-tuned without classes from a model of {_CITATION}",
        component="generator guided-diffusion",
    ),
    _published("lsun-bedroom", "lsun_bedroom.pt"),
    _published("lsun-cat", "lsun_cat.pt"),
    _published("lsun-horse", "lsun_horse.pt"),
    _published("lsun-horse-nodropout", "lsun_horse_nodropout.pt"),
    _published("imagenet64-classifier", "64x64_classifier.pt"),
    _published("imagenet128-classifier", "128x128_classifier.pt"),
    _published("imagenet256-classifier", "256x256_classifier.pt"),
    _published("imagenet512-classifier", "512x512_classifier.pt"),
)

WEIGHTS = {file.filename: file for file in _FILES}
"""Checkpoints by published file name. The two upsamplers are left out, because no component can use them."""
