"""Convert a PyTorch checkpoint to safetensors, which cannot contain code. No code in the checkpoint is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import explained, replacing

from .reading import format_of
from .sharded import is_index, weights_in
from .store import sha256_of
from .unwrapping import read_state

if TYPE_CHECKING:
    from torch import Tensor

SHARED = "shared"
"""Metadata entry of the result: a JSON object from each omitted name to the stored name of the same tensor."""


@dataclass(frozen=True)
class Conversion:
    """The result of :func:`convert`.

    :param tensors: name -> (dtype, shape) of each stored tensor.
    :param shared: omitted name -> stored name of the same tensor.
    :param key: the entry of the checkpoint with the tensors; empty for the top level.
    :param renamed: number of names that lost a wrapper's prefix.
    """

    size: int
    sha256: str
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    shared: dict[str, str] = field(default_factory=dict)
    key: str = ""
    renamed: int = 0

    def by_dtype(self) -> dict[str, list[str]]:
        """Return the stored names by dtype."""
        groups: dict[str, list[str]] = {}
        for name, (dtype, _) in self.tensors.items():
            groups.setdefault(dtype, []).append(name)
        return groups

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tensors = {
            name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in self.tensors.items()
        }
        return {
            "size": self.size,
            "sha256": self.sha256,
            "key": self.key,
            "renamed": self.renamed,
            "tensors": tensors,
            "shared": self.shared,
        }


def convert(source: Path, target: Path, *, key: str | None = None, force: bool = False) -> Conversion:
    """Write the named tensors of the checkpoint ``source`` to ``target`` as safetensors, atomically.

    ``source`` is a file, the index of a checkpoint in several files, or a directory with one of those. Sparse tensors
    become dense. Dtypes and values stay as they are, and names lose what training wrappers added (``module.``,
    :func:`.unwrapping.own_name`). A tensor with several names is stored once, under its first name. The metadata
    entry ``shared`` lists the other names. Tensors that overlap in another way are stored in full.

    :param key: the entry of the checkpoint with the tensors; required if several are possible.
    :param force: overwrite ``target``.
    :raises UsageError: ``target`` exists, or has another suffix; ``key`` is missing or wrong.
    :raises GuidelensError: ``source`` cannot be read as plain tensors, or ``target`` cannot be written.
    """
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} must end in .safetensors")
    if target.exists() and not force:
        raise UsageError(f"{target} exists; --force overwrites it")
    if source.is_dir():
        source = weights_in(source) or source
    elif not source.is_file():
        raise GuidelensError(f"there is no checkpoint {source}")
    what = f"{source} as a PyTorch checkpoint"
    if not is_index(source) and (source.suffix == ".safetensors" or format_of(source, what) == "safetensors"):
        raise UsageError(f"{source} is safetensors already")
    found = read_state(source, what, key=key, option="--key", contents="tensors")
    stored, shared = separate(found.tensors)
    metadata = {"format": "pt"} | ({SHARED: json.dumps(shared)} if shared else {})
    _write(stored, target, metadata)
    described = {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in stored.items()}
    return Conversion(target.stat().st_size, sha256_of(target), described, shared, found.key, found.renamed)


def separate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors that share no memory, and for each omitted name the stored name."""
    first: dict[tuple[object, ...], str] = {}
    owners: set[int] = set()
    stored: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    for name, tensor in state.items():
        layout = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and layout in first:
            shared[name] = first[layout]
            continue
        first[layout] = name
        storage = tensor.untyped_storage().data_ptr()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        stored[name] = tensor.contiguous() if whole and storage not in owners else tensor.clone().contiguous()
        owners.add(storage)
    return stored, shared


def _write(stored: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with explained(f"cannot write {target}"), replacing(target) as temporary:
            save_file(stored, str(temporary), metadata=metadata)
    except SafetensorError as error:
        raise GuidelensError(f"cannot write {target}: {error}") from error
