"""Layers of the network: attention, explicit or fused, and linear layers that cache their cast weights.

The layers are built without initial weights. Drawing them takes seconds for a full-size network, and a checkpoint
overwrites them. :func:`guidelens_blip.network.initialise` draws them.

Under autocast PyTorch casts a frozen weight at every call, because it only caches casts of weights that need
gradients. These layers cast it once. The results are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED_ON = ("cuda",)
"""Device types on which attention is one fused kernel."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    divisor: float = 1.0,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return softmax(s q k^T + bias) v, with s = ``scale`` or 1 / ``divisor``.

    ``scale`` multiplies and ``divisor`` divides: the two round differently, and each of BLIP's two transformers
    matches LAVIS bit for bit. On :data:`FUSED_ON` one kernel computes the result without storing the scores.

    :param q: (N, H, L, d). Of ``k`` and ``v``: (N, H, length, d).
    :param bias: broadcasts to (N, H, L, length).
    :param dropout: share of the attention weights that are zeroed.
    """
    if q.device.type in FUSED_ON:
        factor = 1 / divisor if scale is None else scale
        bias = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=factor)
    scores = q @ k.transpose(-2, -1)
    scores = scores / divisor if scale is None else scores * scale
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights @ v


class Linear(nn.Linear):
    """W x + b."""

    def reset_parameters(self) -> None:
        """Do nothing: the weights come from a checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(x, *_weights(self, x.device.type))


class Conv2d(nn.Conv2d):
    """Convolution without padding."""

    def reset_parameters(self) -> None:
        """Do nothing: the weights come from a checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H', W')."""
        weight, bias = _weights(self, x.device.type)
        return F.conv2d(x, weight, bias, self.stride)


class Embedding(nn.Embedding):
    """Lookup table of vectors."""

    def reset_parameters(self) -> None:
        """Do nothing: the weights come from a checkpoint."""


def _weights(layer: Linear | Conv2d, kind: str) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias. Frozen weights under autocast are cast to its dtype once and cached.

    The cache is renewed when the weights are replaced, moved or changed in place.
    """
    weight, bias = layer.weight, layer.bias
    if weight.requires_grad or kind == "meta" or not torch.is_autocast_enabled(kind):
        return weight, bias
    dtype = torch.get_autocast_dtype(kind)
    if weight.dtype in (dtype, torch.float64):  # autocast does not cast float64
        return weight, bias
    parts = [weight] if bias is None else [weight, bias]
    source = [(part.data_ptr(), part.device, part.dtype, _version(part)) for part in parts]
    kept = layer.__dict__.get("_kept")
    if kept is None or kept[0] != (dtype, source):
        # Keep the originals as well, so that their addresses cannot be reused for other weights.
        originals = [part.detach() for part in parts]
        kept = layer.__dict__["_kept"] = (dtype, source), originals, [part.to(dtype) for part in originals]
    cast: list[Tensor] = kept[2]
    return cast[0], cast[1] if bias is not None else None


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
