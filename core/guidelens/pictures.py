"""Conversion between tensors in [-1, 1] and 8-bit pictures, and PNG files."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor


def to_levels(images: Tensor) -> Tensor:
    """Round images in [-1, 1] to 8 bits: round(127.5 (x + 1)).

    Values outside are clipped; NaN becomes black.

    :param images: (..., C, H, W).
    :returns: (..., H, W, C) uint8 on the CPU, contiguous.
    """
    import torch

    finite = torch.nan_to_num(images.detach().to("cpu", torch.float32), nan=-1.0, posinf=1.0, neginf=-1.0)
    levels = ((finite.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous()


def to_picture(image: Tensor) -> Image:
    """Turn (C, H, W) in [-1, 1], C = 1 or 3, into a picture; see :func:`to_levels`.

    :raises ValueError: for another shape.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (1 or 3, H, W), got {tuple(image.shape)}")
    return from_levels(to_levels(image).numpy())


def from_levels(levels: np.ndarray) -> Image:
    """Turn (H, W, C) uint8, C = 1 or 3, into a picture."""
    from PIL import Image

    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def to_tensor(picture: Image) -> Tensor:
    """Turn a picture into (3, H, W) float32 in [-1, 1]. Metrics receive this tensor, also in a later run."""
    import numpy as np
    import torch

    array = np.array(as_rgb(picture))
    return torch.from_numpy(array).permute(2, 0, 1).to(torch.float32) / 127.5 - 1


def as_rgb(picture: Image) -> Image:
    """Return a picture of any mode as RGB with 8 bits.

    16-bit grey is scaled, where Pillow would clip it. Transparent parts become white, as on most pages; Pillow would
    show the colour that is stored there.

    :raises ValueError: the values have no fixed range (modes F and I, as in some TIFF files).
    """
    from PIL import Image as images

    if picture.mode.startswith("I;16"):
        import numpy as np

        levels = np.asarray(picture).astype(np.float32) / 257
        return images.fromarray(levels.round().astype(np.uint8)).convert("RGB")
    if picture.mode in ("F", "I"):
        raise ValueError(f"its values have no fixed range (mode {picture.mode}); save it with 8 or 16 bits")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = images.new("RGBA", layer.size, "white")
        return images.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def png_bytes(picture: Image) -> bytes:
    """Return ``picture`` as the bytes of a PNG file. The same pixels give the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def open_picture(path: Path | IO[bytes]) -> Image:
    """Open a picture, read it fully, and turn it upright as its EXIF data say.

    For a damaged picture Pillow may also raise SyntaxError or ValueError.

    :raises OSError: if the file does not exist or is not a picture.
    :raises ValueError: for more pixels than Pillow accepts (about 179 million), as a guard against tiny files that
        unpack to huge pictures.
    """
    from PIL import Image as images
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", images.DecompressionBombWarning
        )  # the error, at twice the size, is enough
        try:
            with images.open(path) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture)
        except images.DecompressionBombError as error:
            raise ValueError(str(error)) from None


def is_whole_png(path: Path) -> bool:
    """Return whether a file is a complete PNG.

    Decoding alone does not show this: a library may have set Pillow to accept truncated files in the whole
    process, as LAVIS's data sets do. So the last chunk is checked as well.
    """
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            if file.read() != _PNG_END:
                return False
        open_picture(path)
    except (OSError, SyntaxError, ValueError):
        return False
    return True


_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def enlarged(picture: Image, side: int) -> Image:
    """Return a picture enlarged by an integer factor, without smoothing, to at most ``side`` on its longer side.

    A picture that cannot be doubled within ``side`` is returned unchanged.
    """
    from PIL import Image as images

    factor = side // max(picture.size)
    if factor < 2:
        return picture
    width, height = picture.size
    return picture.resize((width * factor, height * factor), images.Resampling.NEAREST)
