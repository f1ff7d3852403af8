"""The published guided-diffusion checkpoints that can be named: where to get them and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guidelens.contracts import Prediction

from .flags import UNetFlags

ScheduleName = Literal["linear", "cosine"]
PresetName = Literal["imagenet256-uncond"]


@dataclass(frozen=True)
class Preset:
    """A published checkpoint.

    :param url: where its file is; the last part is the file's name.
    :param size: of the file, in bytes.
    :param sha256: of the file, in hex.
    :param flags: of the network.
    :param schedule: the training noise schedule.
    :param num_timesteps: T of the training process.
    :param prediction: what the first channels of the output are.
    """

    url: str
    size: int
    sha256: str
    flags: UNetFlags
    schedule: ScheduleName = "linear"
    num_timesteps: int = 1000
    prediction: Prediction = "epsilon"

    @property
    def file_name(self) -> str:
        """The name that the file is published under."""
        return self.url.rpartition("/")[2]


PRESETS: dict[PresetName, Preset] = {
    "imagenet256-uncond": Preset(
        url="https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
        size=2_211_383_297,
        sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
        flags=UNetFlags(
            image_size=256,
            in_channels=3,
            model_channels=256,
            out_channels=6,
            num_res_blocks=2,
            attention_resolutions=(8, 16, 32),  # factors: at 32, 16 and 8 pixels
            channel_mult=(1, 1, 2, 2, 4, 4),
            num_head_channels=64,
            use_scale_shift_norm=True,
            resblock_updown=True,
        ),
    )
}
"""Unconditional models only: a generator knows no labels."""

DEFAULT_PRESET: PresetName = "imagenet256-uncond"
