"""Read checkpoints in several files through the index that transformers and diffusers write.

``model.safetensors.index.json`` holds ``{"metadata": {...}, "weight_map": {tensor name: file name}}``. The files are
in the same directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.errors import GuidelensError

from .reading import Format, format_of, read_safetensors, read_torch

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""File names of weights in transformers' folders, in the order of preference."""

LARGEST_INDEX = 1 << 26
"""Largest size of an index in bytes. An index of 100,000 tensors has less than 10 MB."""

_INDEX = re.compile(r".+\.index(\.\w+)?\.json")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_SHOWN = 3


@dataclass(frozen=True)
class Shards:
    """The tensors of all parts.

    :param size: of all parts together, in bytes.
    """

    tensors: dict[str, Tensor]
    format: Format
    size: int


def is_index(path: Path) -> bool:
    """Return whether a file has the name of an index."""
    return _INDEX.fullmatch(path.name) is not None


def weights_in(directory: Path, names: Sequence[str] = WEIGHTS_FILES) -> Path | None:
    """Return the weights file in a directory, or the index of its parts; None if there is none.

    :param names: in the order of preference.
    """
    return next((directory / name for name in names if (directory / name).is_file()), None)


def check_whole(path: Path, what: str) -> None:
    """:raises GuidelensError: the file is one part of several."""
    match = _PART.fullmatch(path.name)
    if match and int(match["count"]) > 1:
        index = path.with_name(f"{match['stem']}{match['suffix']}.index.json")
        raise GuidelensError(
            f"cannot read {what}: it is part {int(match['number'])} of {int(match['count'])}; give the index of all "
            f"parts, {index}"
        )


def read_index(path: Path, what: str, *, contents: str = "tensors") -> Shards:
    """Return the tensors of all parts of an index.

    :param what: names the index in errors.
    :param contents: what a part may hold, in the words of the error.
    :raises GuidelensError: the index is malformed, names files outside its directory, or a part is missing,
        unreadable or lacks a tensor.
    """
    files: dict[str, list[str]] = {}
    for tensor, file in _weight_map(path, what).items():
        files.setdefault(file, []).append(tensor)
    missing = [file for file in files if not path.with_name(file).is_file()]
    if missing:
        raise GuidelensError(
            f"cannot read {what}: {len(missing)} of its {len(files)} parts are not in {path.parent}: {_few(missing)}; "
            "download them there"
        )
    tensors: dict[str, Tensor] = {}
    formats = []
    for file, names in files.items():
        part = path.with_name(file)
        held, kind = _read_part(part, f"{part}, a part of {what}", contents)
        lacking = [name for name in names if name not in held]
        if lacking:
            raise GuidelensError(
                f"cannot read {what}: its part {file} lacks {_few(lacking)}; download it again"
            )
        tensors.update({name: held[name] for name in names})
        formats.append(kind)
    return Shards(tensors, formats[0], sum(path.with_name(file).stat().st_size for file in files))


def _weight_map(path: Path, what: str) -> dict[str, str]:
    """Return the checked map from tensor to file name."""
    if not path.is_file():
        raise GuidelensError(f"cannot read {what}: there is no file {path}")
    try:
        if path.stat().st_size > LARGEST_INDEX:
            raise GuidelensError(
                f"cannot read {what}: an index of {path.stat().st_size:,} bytes is too large"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GuidelensError(f"cannot read {what}: it is not JSON: {_line(error)}") from error
    found = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not found or not all(isinstance(f, str) for f in found.values()):
        raise GuidelensError(f"cannot read {what}: an index has a weight_map from tensor to file name")
    for file in found.values():
        if Path(file).name != file or file in ("", ".", "..") or "\\" in file or "\0" in file:
            raise GuidelensError(
                f"cannot read {what}: it names the part {file[:80]!r}; parts are files beside the index"
            )
    return dict(found)


def _read_part(part: Path, what: str, contents: str) -> tuple[Mapping[str, Tensor], Format]:
    import torch

    kind = format_of(part, what)
    if kind == "safetensors":
        return read_safetensors(part, what)[0], kind
    held = read_torch(part, what, contents=contents)
    if not isinstance(held, Mapping):
        raise GuidelensError(f"cannot read {what}: it holds no table of named tensors")
    return {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}, kind


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if names[_SHOWN:] else "")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
