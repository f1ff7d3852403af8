"""What a computation costs before any clock is asked: operations, bytes moved, floating-point operations.

Tensors on PyTorch's meta device have shapes and no content, so a step of any size is counted in seconds and without
its memory, on a machine that has neither the device nor the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_NO_WORK = frozenset(
    {
        "aten::detach",
        "aten::empty",
        "aten::empty_like",
        "aten::empty_strided",
        "aten::new_empty",
        "aten::_unsafe_view",
    }
)
"""Operations beside views that neither read nor write memory."""
_CAST = "aten::_to_copy"
_CONVOLUTION_BACKWARD = "aten::convolution_backward"


@dataclass(frozen=True)
class Cost:
    """The cost of a computation, as its operations are called.

    :param operations: that read or write memory; on a GPU each is one kernel launch or more.
    :param casts: the operations that only change a dtype or a layout.
    :param flop: floating-point operations of products (convolutions, matrices, attention); two per multiply-add.
    :param bytes_moved: read and written if each operation reads its inputs and writes its outputs once.
    :param bytes_cast: the part of it that casts move.
    :param bytes_of: the bytes by name of the operation.
    :param count_of: the number of operations by name.
    """

    operations: int
    casts: int
    flop: int
    bytes_moved: int
    bytes_cast: int
    bytes_of: dict[str, int] = field(repr=False)
    count_of: dict[str, int] = field(repr=False)

    def to_dict(self) -> dict[str, int]:
        """Return the totals as JSON values."""
        return {
            "operations": self.operations,
            "casts": self.casts,
            "flop": self.flop,
            "bytes_moved": self.bytes_moved,
            "bytes_cast": self.bytes_cast,
        }


def count_cost(action: Callable[[], object]) -> Cost:
    """Run ``action`` and return what it costs, on any device; the meta device computes nothing."""
    with _Counter() as counter:
        action()
    return Cost(
        operations=counter.count_of.total(),
        casts=counter.count_of[_CAST],
        flop=counter.flop,
        bytes_moved=counter.bytes_of.total(),
        bytes_cast=counter.bytes_of[_CAST],
        bytes_of=dict(counter.bytes_of.most_common()),
        count_of=dict(counter.count_of.most_common()),
    )


class _Counter(TorchDispatchMode):
    # Not torch's FlopCounterMode: it hooks every module, which torch.compile warns of.
    def __init__(self) -> None:
        super().__init__()
        self.flop = 0
        self.bytes_of: Counter[str] = Counter()
        self.count_of: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name
        if func.is_view or name in _NO_WORK:
            return out
        if (flop := flop_registry.get(func.overloadpacket)) is not None:
            self.flop += flop(*args, **kwargs, out_val=out)
        self.count_of[name] += 1
        self.bytes_of[name] += sum(_size(value) for value in tree_leaves((_read(name, args), kwargs, out)))
        return out


def _read(name: str, args: Any) -> Any:
    """The arguments that an operation reads: a convolution's input has no part in the gradient of that input."""
    if name == _CONVOLUTION_BACKWARD and not args[-1][1]:
        grad, _, weight, *_ = args
        return grad, weight
    return args


def _size(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
