"""Count the cost of a computation without a clock: operations, bytes moved, floating-point operations.

Tensors on PyTorch's meta device have shapes but no content. So counting a step of any size takes seconds and little
memory, and needs neither the device nor the weights.
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
"""Operations other than views that do not access memory."""
_CAST = "aten::_to_copy"
_CONVOLUTION_BACKWARD = "aten::convolution_backward"


@dataclass(frozen=True)
class Cost:
    """The cost of a computation.

    :param operations: number of operations that access memory; on a GPU each needs at least one kernel launch.
    :param casts: number of operations that only change a dtype or a layout.
    :param flop: floating-point operations of products (convolutions, matrices, attention); two per multiply-add.
    :param bytes_moved: bytes, if each operation reads its inputs and writes its outputs once.
    :param bytes_cast: the bytes of casts.
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
    # Not torch's FlopCounterMode: it hooks every module, and torch.compile warns about that.
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
    """Return the arguments that an operation reads. The gradient of a convolution's input does not need that
    input."""
    if name == _CONVOLUTION_BACKWARD and not args[-1][1]:
        grad, _, weight, *_ = args
        return grad, weight
    return args


def _size(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
