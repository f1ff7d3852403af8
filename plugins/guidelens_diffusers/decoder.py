"""The decoders of latents: AutoencoderKL, VQModel, and AutoencoderTiny for less memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from guidelens.errors import GuidelensError
from guidelens.networks import own_precision
from torch import Tensor, nn

KL, VQ, TINY = "AutoencoderKL", "VQModel", "AutoencoderTiny"
DECODERS = (KL, VQ, TINY)
_CHANNELS = {KL: 4, VQ: 3, TINY: 4}


class LatentDecoder(nn.Module):
    """An autoencoder's decoder. It maps latents, as the network diffuses them, to pictures.

    With the scale k and the shift c of its configuration, it decodes z / k + c. A ``VQModel`` rounds latents to its
    codebook, like its pipelines. The gradient ignores the rounding.

    :raises GuidelensError: the autoencoder is not one of RGB pictures.
    """

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        config: Any = vae.config  # of diffusers, which has no types
        if config.get("out_channels", 3) != 3:
            raise GuidelensError(
                f"this decoder draws {config['out_channels']} channels, and guidance models see RGB"
            )
        self.vae = vae.eval().requires_grad_(False)
        self.factor = upscaling_of(config)
        self.scaling_factor = float(config.get("scaling_factor") or 1.0)
        self.shift_factor = float(config.get("shift_factor") or 0.0)
        self._upcast = bool(config.get("force_upcast"))

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (B, C, H, W) to pictures (B, 3, h, w)."""
        z = latents / self.scaling_factor + self.shift_factor
        # Some decoders overflow in half precision.
        with own_precision(latents.device) if self._upcast else nullcontext():
            pictures: Tensor = self.vae.decode(z, return_dict=False)[0]  # type: ignore[operator]
        return pictures


def latent_channels(config: Mapping[str, Any]) -> int:
    """Return the number of channels of an autoencoder's latents."""
    kind = str(config.get("_class_name", KL))
    if config.get("vq_embed_dim") is not None:
        return int(config["vq_embed_dim"])
    return int(config.get("latent_channels", _CHANNELS.get(kind, 4)))


def upscaling_of(config: Mapping[str, Any]) -> int:
    """Return the width of a latent in pixels."""
    if config.get("_class_name") == TINY:
        blocks = config.get("decoder_block_out_channels", (64, 64, 64, 64))
        return int(config.get("upsampling_scaling_factor", 2) ** (len(blocks) - 1))
    return int(2 ** (len(config.get("block_out_channels", (64,))) - 1))
