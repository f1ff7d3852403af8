"""From tensors in [-1, 1] to pictures of 8 bits and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def to_picture(image: Tensor) -> Image:
    """Turn (C, H, W) in [-1, 1], C = 1 or 3, into a picture; values outside are clipped, NaN becomes black.

    :raises ValueError: for another shape.
    """
    import torch
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (1 or 3, H, W), got {tuple(image.shape)}")
    finite = torch.nan_to_num(image.detach().to("cpu", torch.float32), nan=-1.0, posinf=1.0, neginf=-1.0)
    levels = ((finite.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    array = levels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def to_tensor(picture: Image) -> Tensor:
    """Turn a picture into (3, H, W) float32 in [-1, 1]: exactly what a metric sees, now or on a later
    rerun.
    """
    import numpy as np
    import torch

    array = np.array(picture.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).to(torch.float32) / 127.5 - 1
