"""Layers of the network: attention, explicit or fused, and linear layers that keep their weights cast.

They are built without initial weights: drawing those of a full-size network takes seconds, and a checkpoint
overwrites them (:func:`guidelens_blip.network.initialise` draws them). Under autocast PyTorch casts a frozen weight
at every call (it keeps only casts of weights that need gradients). The layers here cast it once; the numbers are
the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED_ON = ("cuda",)
"""Kinds of device on which attention is one kernel."""


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

    One product and one quotient, though they mean the same: their rounding differs, and BLIP's two kinds of
    transformer are each held to LAVIS's bits. On :data:`FUSED_ON` one kernel computes it without writing the scores.

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
        """Leave the weights as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(x, *_weights(self, x.device.type))


class Conv2d(nn.Conv2d):
    """A convolution, without padding."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H', W')."""
        weight, bias = _weights(self, x.device.type)
        return F.conv2d(x, weight, bias, self.stride)


class Embedding(nn.Embedding):
    """A table of vectors."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def _weights(layer: Linear | Conv2d, kind: str) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias to compute with: frozen ones under autocast in its dtype, cast once and kept.

    What is kept follows the weights when these are replaced, moved or changed in place.
    """
    weight, bias = layer.weight, layer.bias
    if weight.requires_grad or kind == "meta" or not torch.is_autocast_enabled(kind):
        return weight, bias
    dtype = torch.get_autocast_dtype(kind)
    if weight.dtype in (dtype, torch.float64):  # autocast leaves float64 alone
        return weight, bias
    parts = [weight] if bias is None else [weight, bias]
    source = [(part.data_ptr(), part.device, part.dtype, _version(part)) for part in parts]
    kept = layer.__dict__.get("_kept")
    if kept is None or kept[0] != (dtype, source):
        # The originals too: while they live, their addresses cannot come to mean other weights.
        originals = [part.detach() for part in parts]
        kept = layer.__dict__["_kept"] = (dtype, source), originals, [part.to(dtype) for part in originals]
    cast: list[Tensor] = kept[2]
    return cast[0], cast[1] if bias is not None else None


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
