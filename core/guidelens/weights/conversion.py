"""Turn a PyTorch checkpoint into safetensors, which cannot hold code. Nothing in the checkpoint is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import explained, replacing

from .reading import read_torch
from .store import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

SHARED = "shared"
"""Metadata entry of the result: a JSON object, each name that was left out and the stored name that it shares."""


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` wrote.

    :param tensors: name -> (dtype, shape) of what is stored.
    :param shared: names whose tensor is stored under another name -> that name.
    :param key: the entry of the checkpoint that the tensors lay in; empty if they were its top level.
    """

    size: int
    sha256: str
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    shared: dict[str, str] = field(default_factory=dict)
    key: str = ""

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
            "tensors": tensors,
            "shared": self.shared,
        }


def convert(source: Path, target: Path, *, key: str | None = None, force: bool = False) -> Conversion:
    """Write the named tensors of the checkpoint ``source`` to ``target`` as safetensors, atomically.

    Dtypes and values stay as they are. Names that are one tensor in the checkpoint are stored once, under the
    first of them; the metadata entry ``shared`` names the others. Tensors that overlap otherwise are stored whole.

    :param key: the entry of the checkpoint that holds the tensors; needed where several could.
    :param force: overwrite ``target``.
    :raises UsageError: ``target`` exists, or has another suffix; ``key`` is missing or wrong.
    :raises GuidelensError: ``source`` cannot be read as plain tensors, or ``target`` cannot be written.
    """
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} must end in .safetensors")
    if target.exists() and not force:
        raise UsageError(f"{target} exists; --force overwrites it")
    chosen, state = _choose(_read(source), source, key)
    stored, shared = separate(state)
    metadata = {"format": "pt"} | ({SHARED: json.dumps(shared)} if shared else {})
    _write(stored, target, metadata)
    described = {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in stored.items()}
    return Conversion(target.stat().st_size, sha256_of(target), described, shared, chosen)


def separate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors that share no memory, and for each name that was left out the name that stands for it."""
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


def _read(path: Path) -> Any:
    if not path.is_file():
        raise GuidelensError(f"there is no checkpoint {path}")
    if path.suffix == ".safetensors":
        raise UsageError(f"{path} is safetensors already")
    return read_torch(path, f"{path} as a PyTorch checkpoint")


def _choose(payload: Any, path: Path, key: str | None) -> tuple[str, dict[str, Tensor]]:
    """Find the table of named tensors in a checkpoint; return the entry it lay in, and the table."""
    if not isinstance(payload, Mapping):
        raise GuidelensError(f"{path} holds a {type(payload).__name__}, and no named tensors")
    tables = {str(name): value for name, value in payload.items() if _is_table(value)}
    if key is not None:
        if key not in tables:
            holding = f"it has them in {', '.join(tables)}" if tables else "no entry of it has"
            raise UsageError(f"{path} holds no named tensors in {key!r}; {holding}")
        return key, tables[key]
    if _is_table(payload):
        return "", dict(payload)
    if len(tables) == 1:
        return next(iter(tables.items()))
    if tables:
        raise UsageError(f"{path} holds named tensors in {', '.join(tables)}; choose with --key")
    raise GuidelensError(f"{path} holds no table of named tensors")


def _is_table(value: object) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items())
    )


def _write(stored: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with explained(f"cannot write {target}"), replacing(target) as temporary:
            save_file(stored, str(temporary), metadata=metadata)
    except SafetensorError as error:
        raise GuidelensError(f"cannot write {target}: {error}") from error
