"""The published guided-diffusion checkpoints by name, with their flags. Does not import torch.

The flags come from OpenAI's README, and for ``imagenet512-uncond`` from the programs that use it.
``guidelens weights`` uses the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .description import Description, from_classifier_script, from_script
from .flags import EncoderFlags

PresetName = Literal[
    "imagenet256-uncond",
    "lsun-bedroom",
    "lsun-cat",
    "lsun-horse",
    "lsun-horse-nodropout",
    "imagenet64",
    "imagenet128",
    "imagenet256",
    "imagenet512",
    "imagenet512-uncond",
]
ClassifierName = Literal[
    "imagenet64-classifier", "imagenet128-classifier", "imagenet256-classifier", "imagenet512-classifier"
]


@dataclass(frozen=True)
class Preset:
    """A published checkpoint.

    :param file_name: name of the published file.
    :param description: its network and training process.
    """

    file_name: str
    description: Description

    @property
    def flags(self) -> Any:
        """The network's :class:`.flags.UNetFlags`."""
        return self.description.flags


@dataclass(frozen=True)
class ClassifierPreset:
    """A published classifier of noisy pictures: its file and flags."""

    file_name: str
    flags: EncoderFlags


_COMMON: Mapping[str, Any] = {
    "attention_resolutions": "32,16,8",
    "learn_sigma": True,
    "num_res_blocks": 2,
    "num_channels": 256,
    "num_head_channels": 64,
    "resblock_updown": True,
    "use_scale_shift_norm": True,
}
_LSUN: Mapping[str, Any] = {**_COMMON, "image_size": 256, "dropout": 0.1}


def _preset(file_name: str, **flags: Any) -> Preset:
    return Preset(file_name, from_script({**_COMMON, **flags}))


PRESETS: Mapping[PresetName, Preset] = {
    "imagenet256-uncond": _preset("256x256_diffusion_uncond.pt", image_size=256),
    "lsun-bedroom": _preset("lsun_bedroom.pt", **_LSUN),
    "lsun-cat": _preset("lsun_cat.pt", **_LSUN),
    "lsun-horse": _preset("lsun_horse.pt", **_LSUN),
    "lsun-horse-nodropout": _preset("lsun_horse_nodropout.pt", image_size=256),
    "imagenet64": _preset(
        "64x64_diffusion.pt",
        image_size=64,
        class_cond=True,
        dropout=0.1,
        noise_schedule="cosine",
        num_channels=192,
        num_res_blocks=3,
        use_new_attention_order=True,
    ),
    "imagenet128": _preset(
        "128x128_diffusion.pt", image_size=128, class_cond=True, num_heads=4, num_head_channels=-1
    ),
    "imagenet256": _preset("256x256_diffusion.pt", image_size=256, class_cond=True),
    "imagenet512": _preset("512x512_diffusion.pt", image_size=512, class_cond=True),
    # Fine-tuned from imagenet512 by Katherine Crowson.
    "imagenet512-uncond": _preset("512x512_diffusion_uncond_finetune_008100.pt", image_size=512),
}
"""Generators. A class-conditional one draws the class ``label``."""

_UPSAMPLER: Mapping[str, Any] = {"class_cond": True, "num_channels": 192, "channel_mult": "1,1,2,2,4,4"}
UPSAMPLERS: Mapping[str, Preset] = {
    "64-256-upsampler": _preset(
        "64_256_upsampler.pt", **_UPSAMPLER, image_size=256, num_heads=4, num_head_channels=-1
    ),
    "128-512-upsampler": _preset(
        "128_512_upsampler.pt", **_UPSAMPLER, image_size=512, attention_resolutions="32,16"
    ),
}
"""Networks of :class:`.unet.SuperResUNet`, which enlarge a smaller picture. They are listed to recognise their files.

``in_channels`` is the number of channels of the picture. The first convolution has twice as many inputs.
"""


def _classifier(size: int, depth: int = 2) -> ClassifierPreset:
    flags = from_classifier_script({"image_size": size, "classifier_depth": depth})
    return ClassifierPreset(f"{size}x{size}_classifier.pt", flags)


CLASSIFIERS: Mapping[ClassifierName, ClassifierPreset] = {
    "imagenet64-classifier": _classifier(64, depth=4),
    "imagenet128-classifier": _classifier(128),
    "imagenet256-classifier": _classifier(256),
    "imagenet512-classifier": _classifier(512),
}
"""Classifiers of noisy pictures x_t."""

DEFAULT_PRESET: PresetName = "imagenet256-uncond"
DEFAULT_CLASSIFIER: ClassifierName = "imagenet256-classifier"
