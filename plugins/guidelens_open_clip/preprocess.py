"""open_clip's preprocessing of pictures (resizing, cropping, normalisation) as differentiable operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from guidelens.device_copies import upload
from guidelens.errors import GuidelensError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """open_clip's evaluation transform for tensors, with its names and defaults.

    Pictures are resized with antialiasing, cropped or padded to ``size``, and normalised by ``mean`` and ``std``.
    Unlike in a transform of 8-bit pictures, values are not rounded or clamped, so that gradients exist everywhere.
    """

    size: tuple[int, int] = (224, 224)
    """(H, W) of the network's input."""
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    """``shortest``: fit the shorter side and crop the longer. ``longest``: fit the longer side and pad the shorter.
    ``squash``: fit both sides, without keeping the aspect ratio."""
    fill_color: int = 0
    """Value that ``longest`` pads with, 0 to 255."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """Read open_clip's dictionary (``model.visual.preprocess_cfg``, ``preprocess_cfg`` in a config file).

        :raises GuidelensError: open_clip does not have a value.
        """
        try:
            known = {name: value for name, value in config.items() if name in cls.__dataclass_fields__}
            size = known.pop("size", cls.size)
            known["size"] = (size, size) if isinstance(size, int) else tuple(size)
            for name in ("mean", "std"):
                given = known.get(name, getattr(cls, name))
                known[name] = tuple(given) if isinstance(given, list | tuple) else (given,) * 3
            if known.get("interpolation") == "random":  # only training draws one at random
                known["interpolation"] = "bicubic"
            preprocess = cls(**known)
        except (TypeError, ValueError) as error:
            raise GuidelensError(f"cannot read the preprocessing {dict(config)!r}: {error}") from error
        for name, allowed in (("resize_mode", ResizeMode), ("interpolation", Interpolation)):
            if getattr(preprocess, name) not in get_args(allowed):
                raise GuidelensError(
                    f"the preprocessing has {name} {getattr(preprocess, name)!r}; choose "
                    f"{', '.join(get_args(allowed))}"
                )
        return preprocess

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1], of any size, to the network's input (B, 3, *size).

        :raises UsageError: the images have another shape.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise UsageError(f"images must have the shape (B, 3, H, W), not {tuple(images.shape)}")
        height, width = self._resized(images.shape[2], images.shape[3])
        images = (images + 1) / 2
        if (height, width) != tuple(images.shape[2:]):
            images = F.interpolate(
                images, size=(height, width), mode=self.interpolation, align_corners=False, antialias=True
            )
        images = self._cropped(images)
        mean, std = (
            upload(torch.tensor(values, dtype=torch.float64), images.device, images.dtype)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (images - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return (H, W) after resizing, before cropping and padding."""
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and self.size[0] == self.size[1]:
            # torchvision rounds the longer side down, open_clip's other resizing to the nearest.
            short, long = sorted((height, width))
            longer = int(self.size[0] * long / short)
            return (longer, self.size[0]) if height >= width else (self.size[0], longer)
        ratios = (height / self.size[0], width / self.size[1])
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return round(height / ratio), round(width / ratio)

    def _cropped(self, images: Tensor) -> Tensor:
        """Pad, then crop images to ``size`` around their centre."""
        lacking = [max(0, size - side) for size, side in zip(self.size, images.shape[2:], strict=True)]
        if any(lacking):
            (above, below), (left, right) = ((lack // 2, (lack + 1) // 2) for lack in lacking)
            images = F.pad(images, (left, right, above, below), value=self.fill_color / 255)
        top, left = (round((side - size) / 2) for size, side in zip(self.size, images.shape[2:], strict=True))
        return images[:, :, top : top + self.size[0], left : left + self.size[1]]
