"""A generator and a guidance model that run in milliseconds and fulfil their contracts exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from guidelens.contracts import Prediction, TextBatch
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.errors import UsageError

_STRENGTH = 100.0  # large enough that four guided steps change the picture visibly


class TinyGenerator:
    """The exact denoiser of pictures whose pixels are independent, N(mean, std^2); it has no network.

    With abar of x_t: E[x0 | x_t] = mean + sqrt(abar) std^2 / (abar std^2 + 1 - abar) (x_t - sqrt(abar) mean),
    and eps and v follow from their definitions. Linear noise schedule, T = 1000.

    :param size: height and width in pixels.
    :param prediction: what the output is.
    """

    learned_variance = False

    def __init__(
        self, size: int = 8, prediction: Prediction = "epsilon", mean: float = 0.0, std: float = 0.5
    ) -> None:
        self.image_shape = (3, size, size)
        self.prediction: Prediction = prediction
        self.mean, self.std = mean, std
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule("linear"))
        self.fingerprint = f"tiny-generator-{size}-{prediction}-{mean}-{std}"

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        """Map (B, 3, H, W) and training timesteps (B,) to (B, 3, H, W)."""
        abar = self.alphas_cumprod[timesteps.cpu()].to(x_t).reshape(-1, 1, 1, 1)
        gain = abar.sqrt() * self.std**2 / (abar * self.std**2 + 1 - abar)
        x0 = self.mean + gain * (x_t - abar.sqrt() * self.mean)
        if self.prediction == "x0":
            return x0
        eps = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
        return eps if self.prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0


class TinyGuidanceModel:
    """A guidance model in which a hash of the prompt gives a colour c. Its objectives have the names of built-in
    schedules.

    For a picture x of N pixels and mean colour m: ``cap`` is k/2 times the sum of (x - c)^2 over pixels,
    ``itc`` k N/2 |m - c|^2, and ``itm`` N log(1 + itc / N), with k = 100. Pictures (B, 3, H, W) may have any size.
    """

    objectives = frozenset({"itc", "itm", "cap"})
    fingerprint = "tiny-guidance-1"

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts as colours.

        :raises UsageError: for an empty prompt.
        """
        if not all(prompt.strip() for prompt in prompts):
            raise UsageError("a prompt is empty")
        colours = torch.stack([colour_of(prompt) for prompt in prompts])
        return TextBatch(tuple(prompts), {"colour": colours})

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return the requested losses (B,)."""
        colour = text.tensors["colour"].to(images)[:, :, None, None]
        cap = (images - colour).square().sum(dim=(1, 2, 3)) * _STRENGTH / 2
        apart = images.mean(dim=(2, 3), keepdim=True) - colour
        pixels = images[0, 0].numel()
        itc = apart.square().sum(dim=(1, 2, 3)) * pixels * _STRENGTH / 2
        known = {"cap": cap, "itc": itc, "itm": pixels * (itc / pixels).log1p()}
        return {name: known[name] for name in objectives}


def colour_of(prompt: str) -> Tensor:
    """Return the colour (3,) in [-0.8, 0.8] of a prompt."""
    digits = hashlib.sha256(prompt.encode()).digest()[:3]
    return torch.tensor([digit / 255 * 1.6 - 0.8 for digit in digits])
