"""An image without a prior, as a generator. The predicted x0 at every step is the image itself.

The contract of generators requires the expected x0 given x_t. Under a flat prior over images (p(x0) constant), x0 given
x_t is normal with mean x_t / sqrt(abar). This generator predicts that mean, so the network is the identity. The
training process has almost no noise (abar from 1 - 1e-7 to 1 - 1e-4), so x_t is the image itself, and DDIM does not
change it. Only guidance changes it. With ``into="sample"`` a step is gradient descent on the loss,

    image <- image - s * start^2 * dL/d(image).

In every generator, noise starts with standard deviation 1. Here ``decode`` multiplies it by ``start``, which explains
the square.
"""

from __future__ import annotations

import torch
from guidelens.contracts import Prediction
from torch import Tensor

_STEPS = 1000
_MOST_NOISE = 1e-4
"""1 - abar at the noisiest training step."""


class Pixels:
    """The generator of a flat prior; see the module's docstring.

    :param size: height and width of the image.
    :param start: standard deviation of the image at the first step.
    """

    prediction: Prediction = "x0"
    learned_variance = False
    notes = (
        "pixels has no prior, the image itself is optimised: use --sampler ddim --into sample (--scale: step size)",
    )

    def __init__(self, size: int = 32, start: float = 0.3) -> None:
        self.image_shape = (3, size, size)
        self.picture_shape = (3, size, size)
        self.start = start
        self.fingerprint = f"pixels/{size}/{start!r}"
        noise = torch.arange(1, _STEPS + 1, dtype=torch.float64) * (_MOST_NOISE / _STEPS)
        self.alphas_cumprod = 1 - noise

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Return the expected x0 (B, 3, H, W), x_t / sqrt(abar)."""
        signal = self.alphas_cumprod.to(timesteps.device)[timesteps].sqrt()
        return x_t / signal.to(x_t.dtype)[:, None, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Return the image (B, 3, H, W)."""
        return latents * self.start
