"""3x3 convolutions by Winograd's minimal filtering: 4 of 9 products, in float32 on a CPU.

F(2x2, 3x3) of Lavin & Gray 2015 (arXiv:1509.09308): each 2x2 tile of outputs y comes from the 4x4 tile of inputs d
around it, channels mixed by 16 matrix products,

    y = A' [ sum over input channels of (G g G') * (B' d B) ] A

with g the 3x3 kernel, * the product of entries, ' the transpose, and

    B' = 1  0 -1  0     G =  1    0    0     A' = 1  1  1  0
         0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
         0 -1  1  0         1/2 -1/2  1/2
         0  1  0 -1          0    0    1

The products run at the speed of matrices. Some rows of tiles are transformed at a time, few enough to stay in the
cores' caches: that is what makes the transforms cheap, and all of it faster than oneDNN's direct convolution.
Its rounding errors are no larger than that one's; tests measure both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CACHE = 4 * 2**20
"""Bytes of transformed inputs per thread."""
_CHANNELS, _PIXELS = 192, 64 * 64
"""From these on, on either side of the convolution, it pays. Smaller pictures go with large weights, for which the
transformed ones, 16/9 of their size, would take much memory as well."""


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a 3x3 convolution of ``x`` with padding 1 and stride 1 is faster like this."""
    height, width = x.shape[2:]
    even = height % 2 == 0 and width % 2 == 0
    wide = min(weight.shape[:2]) >= _CHANNELS and height * width >= _PIXELS
    return x.dtype == torch.float32 and even and wide


def transformed(weight: Tensor) -> Tensor:
    """Return G g G' of a weight (C_out, C_in, 3, 3) as matrices (16, C_in, C_out)."""
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.einsum("ai,ocij,bj->abco", g, weight, g).flatten(0, 1).contiguous()


def convolve(x: Tensor, matrices: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution with padding 1 of x (B, C_in, H, W), H and W even, in channels-last layout.

    :param matrices: see :func:`transformed`.
    """
    batch, channels, height, width = x.shape
    size = (batch, matrices.shape[2], height, width)
    out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    bytes_a_row = 16 * (width // 2) * channels * x.element_size()
    rows = max(1, torch.get_num_threads() * _CACHE // bytes_a_row)
    for image, result in zip(x.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1), strict=True):
        for first in range(0, height // 2, rows):
            last = min(first + rows, height // 2)
            above, below = int(first == 0), int(last == height // 2)
            seen = image[2 * first - 1 + above : 2 * last + 1 - below]
            if above or below:
                seen = F.pad(seen, (0, 0, 0, 0, above, below))
            _tiles(seen, matrices, bias, result[2 * first : 2 * last])
    return out


def _tiles(seen: Tensor, matrices: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write rows of outputs (2 n, W, C_out) that see rows of inputs (2 n + 2, W, C_in)."""
    rows, width, channels = len(out) // 2, out.shape[1], seen.shape[2]
    lines = [seen[i : i + 2 * rows : 2] for i in range(4)]
    inputs = seen.new_empty(4, 4, rows, width // 2, channels)
    line = seen.new_zeros(rows, width + 2, channels)  # with a column of zeros on either side
    columns = [line[:, j : j + width : 2] for j in range(4)]
    for i in range(4):
        _combine(lines, i, line[:, 1:-1])
        for j in range(4):
            _combine(columns, j, inputs[i, j])
    products = torch.bmm(inputs.view(16, -1, channels), matrices)
    if bias is not None:
        products[5] += bias  # the entry that every output has once
    products = products.view(4, 4, rows, width // 2, -1)
    upper = (products[0] + products[1]).add_(products[2])
    lower = (products[1] - products[2]).sub_(products[3])
    tiles = out.unflatten(0, (rows, 2)).unflatten(2, (width // 2, 2))
    for k, half in enumerate((upper, lower)):
        torch.add(half[0] + half[1], half[2], out=tiles[:, k, :, 0])
        torch.sub(half[1] - half[2], half[3], out=tiles[:, k, :, 1])


def _combine(of: list[Tensor], row: int, out: Tensor) -> None:
    """Write a row of B' times what is given."""
    if row == 0:
        torch.sub(of[0], of[2], out=out)
    elif row == 1:
        torch.add(of[1], of[2], out=out)
    elif row == 2:
        torch.sub(of[2], of[1], out=out)
    else:
        torch.sub(of[1], of[3], out=out)
