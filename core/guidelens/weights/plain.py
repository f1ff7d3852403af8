"""Convert the tensors of a checkpoint to dense arrays of real numbers. Errors name the tensor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.errors import GuidelensError

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 1 << 28
"""Bytes that a file's tensors may always have, regardless of the size of the file."""
_LARGER = 4
"""Above that, the largest ratio of the size of the tensors to the size of the file."""


def plain(tensors: Mapping[str, Tensor], path: Path, size: int) -> dict[str, Tensor]:
    """Return the tensors as dense tensors.

    :param path: names the file in errors.
    :param size: bytes of the file, or of all its parts.
    :raises GuidelensError: a name is not text, a tensor is quantised, complex, nested or without values, a sparse
        tensor is damaged, or the tensors are far larger than the file.
    """
    for name, tensor in tensors.items():
        if not name.isprintable():  # surrogates too, which no file of text could hold
            raise GuidelensError(f"{path}: the name {name[:80]!a} of a tensor is not text: it is damaged")
        if problem := _problem(name, tensor):
            raise GuidelensError(f"{path}: {name} {problem}")
    _check_size(tensors, path, size)
    return {name: _dense(name, tensor, path) for name, tensor in tensors.items()}


def identity(tensor: Tensor) -> object:
    """Return a value that is equal for all names of one tensor."""
    if not _is_dense(tensor) or not tensor.numel():
        return id(tensor)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _is_dense(tensor: Tensor) -> bool:
    import torch

    return tensor.layout is torch.strided and tensor.device.type != "meta" and not tensor.is_nested


def _problem(name: str, tensor: Tensor) -> str:
    """Return why a tensor cannot be converted to a dense array of real numbers, or an empty text."""
    if tensor.device.type == "meta":
        return "is a meta tensor, which has a shape but no values: save the weights"
    if tensor.is_quantized:
        return f"is quantised: save {name}.dequantize(), or take the original"
    if tensor.is_nested:
        return f"is a nested tensor, not a dense one: save {name}.to_padded_tensor(0)"
    if tensor.is_complex():
        return "is complex, and weights are real numbers"
    return ""


def _check_size(tensors: Mapping[str, Tensor], path: Path, size: int) -> None:
    sizes: dict[object, tuple[int, str]] = {}
    for name, tensor in tensors.items():
        sizes[identity(tensor)] = (math.prod(tensor.shape) * tensor.element_size(), name)
    if sum(each for each, _ in sizes.values()) <= max(_LARGER * size, _SMALL):
        return
    largest, name = max(sizes.values())
    if not _is_dense(tensors[name]):
        kind, cure = "a sparse tensor that is nearly empty", "save it dense if you trust it"
    else:
        kind, cure = "an expanded tensor", "save a smaller one"
    raise GuidelensError(
        f"{path}: {name} repeats a few stored numbers up to {largest:,} bytes ({kind}): {cure}"
    )


def _dense(name: str, tensor: Tensor, path: Path) -> Tensor:
    """Return a sparse tensor as a dense one. Its indices are checked, because they come from a file."""
    import torch

    if tensor.layout is torch.strided:
        return tensor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # compressed layouts are in beta
            return _checked(tensor).to_dense()
    except (RuntimeError, IndexError) as error:
        kind = str(tensor.layout).removeprefix("torch.")
        raise GuidelensError(f"{path}: the {kind} tensor {name} is damaged: {_line(error)}") from error


def _checked(tensor: Tensor) -> Tensor:
    """Return a copy of a sparse tensor after checking that its indices fit its shape."""
    import torch

    values, shape, layout = tensor, tensor.shape, tensor.layout
    if layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(values._indices(), values._values(), shape, check_invariants=True)
    rows = layout in (torch.sparse_csr, torch.sparse_bsr)
    return torch.sparse_compressed_tensor(
        values.crow_indices() if rows else values.ccol_indices(),
        values.col_indices() if rows else values.row_indices(),
        values.values(),
        shape,
        layout=layout,
        check_invariants=True,
    )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
