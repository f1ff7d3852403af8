"""The UNet with ``torch.compile``: one graph for the prediction, one for the gradient, and converted weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from guidelens.networks import own_precision
from guidelens.quiet import quiet
from torch import Tensor, nn

from . import ops
from .unet import UNet

Predict = Callable[[Tensor, Tensor, "Tensor | None", torch.dtype], Tensor]


@dataclass(frozen=True)
class _Compiled:
    """The compiled network for one precision, and the version of the weights that it was made from."""

    predict: Predict
    weights: tuple[ops.TensorState, ...]


class CompiledUNet:
    """Compute a UNet with ``torch.compile``.

    The first call of each precision compiles, which takes minutes at full size. The first batch of another size
    compiles once more, for any batch size.

    :param unet: frozen. If its weights move or change between calls, they are converted and compiled again.
    """

    def __init__(self, unet: UNet) -> None:
        self._unet = unet
        self._compiled: dict[torch.dtype, _Compiled] = {}

    def __call__(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict like :meth:`UNet.forward`."""
        with own_precision(x.device) as asked:
            dtype = self._unet.precision(x, asked)
            with (
                quiet()
            ):  # the compiler looks at the gradient of x, which need not be a leaf, and warns of it
                return self.prepared(dtype)(x, timesteps, y, dtype)

    def prepared(self, dtype: torch.dtype) -> Predict:
        """Return the compiled :meth:`UNet.predict` for one precision. Its first call compiles."""
        weights = ops.states_of(self._unet)
        found = self._compiled.get(dtype)
        if found is None or found.weights != weights:
            predict = cast(Predict, torch.compile(in_precision(self._unet, dtype).predict))
            # Read the state afterwards, as conversion changes the memory layout.
            weights = ops.states_of(self._unet)
            found = self._compiled[dtype] = _Compiled(predict, weights)
        return found.predict


def in_precision(unet: UNet, dtype: torch.dtype) -> UNet:
    """Return a UNet whose convolutions have weights in ``dtype``, so that its graph contains no casts.

    The timestep embedding, the normalisations and the last convolution keep their precision. Tensors are shared with
    ``unet`` or with the cache of :func:`.ops.held`.
    """
    with torch.device("meta"):
        twin = UNet(**unet.flags.to_dict())
    twin.use_checkpoint = unet.use_checkpoint
    last = unet.out[-1]
    for own, layer in zip(unet.modules(), twin.modules(), strict=True):
        tensors: dict[str, Tensor] = dict(own.named_parameters(recurse=False))
        if isinstance(own, nn.Conv1d | nn.Conv2d):
            weight, bias = ops.held(own, next(last.parameters()).dtype if own is last else dtype)
            tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        for name, tensor in tensors.items():
            setattr(layer, name, nn.Parameter(tensor, requires_grad=False))
    return twin.eval()
