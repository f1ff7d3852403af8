"""Keep models in float64 whose code casts parts of the computation to float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKERS = (torch.zeros, torch.ones, torch.empty)


class KeepFloat64(TorchFunctionMode):
    """Inside the block, float64 tensors stay float64 if code asks for float32, and new float32 tensors become float64.

    Many models of transformers compute normalisations and softmax in float32 in any precision. Finite differences in
    float64 would then measure only rounding.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` without a cast from float64 to float32."""
        named = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.dtype == torch.float64:
            if func is Tensor.float:
                return first
            if func in (Tensor.to, Tensor.type):
                args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        if named.get("dtype") is torch.float32 or (func in _MAKERS and "dtype" not in named):
            named["dtype"] = torch.float64
        return func(*args, **named)


def without_downcasts(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return :class:`KeepFloat64` for a float64 network, and a context that does nothing for others."""
    return KeepFloat64() if dtype == torch.float64 else nullcontext()
