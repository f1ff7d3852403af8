"""Random views of an image, which the guidance model sees instead of it, and how their losses are combined.

Gradients are averaged over augmentations (crops, affine maps, noise), as with the cutouts of CLIP-guided diffusion. A
gradient that lowers the loss of one view only tends to draw an adversarial texture. Smoothing draws around the
predicted x0 estimate an expectation over p(x0 | x_t) (Song et al. 2023, LGD-MC).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device_copies import to_device
from ..diffusion.noise import KeyedNoise
from ..sampling import Sampling

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float

SMALLEST_CROP = 0.55
"""Side of the smallest crop at strength 1, as a share of the image's side."""
LARGEST_TURN = math.radians(20)
LARGEST_ZOOM = 0.15
LARGEST_SHIFT = 0.1
"""Largest shift at strength 1, as a share of the image's side."""
NOISE = 0.1
"""Standard deviation of the noise at strength 1. Pixels range over 2, from -1 to 1."""

Key = tuple[int, ...]


class Views:
    """The views of one step. Each is drawn from the sample's seed, the step and the number of the view.

    :param options: the kinds, number and strength of the views.
    """

    def __init__(self, options: Sampling, noise: KeyedNoise) -> None:
        self._noise = noise
        self._kinds = options.augmentation_kinds
        self._strength = options.augment_strength
        self.draws = max(1, options.smoothing)
        """The number of smoothing draws in a step. The ``augmentations`` views of each draw are averaged."""
        self.augmentations = options.augmentations

    def show(
        self, images: Tensor, radius: Tensor | None, rows: Sequence[int], key: Key, draw: int, n: int
    ) -> Tensor:
        """Return view ``n`` of smoothing draw ``draw``, differentiable in the images (B, C, H, W).

        :param radius: r_t (B, 1, 1, 1), the standard deviation of the smoothing draws; None: no smoothing.
        :param rows: the numbers of the samples in the batch.
        :param key: the step and its repetition.
        """
        shape = images.shape[1:]
        if radius is not None:
            z = self._noise.normal(shape, "smoothing", *key, draw, rows=rows)
            images = images + radius * to_device(z.to(images.dtype), images.device)
        where = (*key, draw, n)
        if "crop" in self._kinds or "affine" in self._kinds:
            images = _resampled(images, self._transform(images, rows, where))
        if "noise" in self._kinds:
            z = self._noise.normal(shape, "augment-noise", *where, rows=rows)
            z = to_device(z.to(images.dtype), images.device)
            images = images + NOISE * self._strength * z
        return images

    def _transform(self, images: Tensor, rows: Sequence[int], where: Key) -> Tensor:
        """Return affine maps (B, 2, 3) from pixels of the view to points of the image, in coordinates from -1 to 1."""
        theta = torch.eye(3, dtype=torch.float32).expand(len(rows), 3, 3)
        if "crop" in self._kinds:
            theta = theta @ _window(self._noise.uniform((3,), "crop", *where, rows=rows), self._strength)
        if "affine" in self._kinds:
            theta = theta @ _motion(self._noise.uniform((4,), "affine", *where, rows=rows), self._strength)
        return to_device(theta[:, :2].to(images.dtype), images.device)


def combined_loss(
    losses: Float[Tensor, "n B"], average: str
) -> tuple[Float[Tensor, "B"], Float[Tensor, "n B"]]:
    """Return the loss over smoothing draws (B,), and the share (n, B) of each draw in its gradient.

    With ``logmeanexp`` the loss is -log mean exp(-L), and its gradient weights the draws by softmax(-L) (Song et al.
    2023). Otherwise it is the mean.

    :param losses: (n, B).
    """
    if average == "mean":
        return losses.mean(dim=0), torch.full_like(losses, 1 / len(losses))
    smoothed = math.log(len(losses)) - torch.logsumexp(-losses, dim=0)
    return smoothed, torch.softmax(-losses, dim=0)


def _window(u: Tensor, strength: float) -> Tensor:
    """Return the map of a square window inside the image, with random side and position; u (B, 3) in [-1, 1)."""
    side = 1 - (1 - SMALLEST_CROP) * strength * (u[:, 0] + 1) / 2
    zero = torch.zeros_like(side)
    return _matrix(side, zero, (1 - side) * u[:, 1], zero, side, (1 - side) * u[:, 2])


def _motion(u: Tensor, strength: float) -> Tensor:
    """Return a random rotation, zoom and shift; u (B, 4) in [-1, 1)."""
    angle, zoom = LARGEST_TURN * strength * u[:, 0], 1 + LARGEST_ZOOM * strength * u[:, 1]
    along, across = zoom * angle.cos(), zoom * angle.sin()
    shift = 2 * LARGEST_SHIFT * strength * u[:, 2:]
    return _matrix(along, -across, shift[:, 0], across, along, shift[:, 1])


def _matrix(*entries: Tensor) -> Tensor:
    """Return matrices (B, 3, 3) from the entries of their first two rows."""
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float32).expand(len(entries[0]), 1, 3)
    return torch.cat([torch.stack(entries, dim=1).reshape(-1, 2, 3), last], dim=1)


def _resampled(images: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
