"""Read the weights of a TorchScript archive without running or building its program.

Such an archive is a program with its data: ``data.pkl`` pickles a tree of modules, and each tensor's numbers are an
entry ``data/N`` of the zip file. :func:`read_torchscript` rebuilds that tree from inert objects, and collects its
tensors under the names of ``state_dict``. The code in the archive is never read.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_DEEPEST = 100
_MOST_MODULES = 100_000


def read_torchscript(path: Path, what: str) -> dict[str, Tensor]:
    """Return the parameters and buffers of a TorchScript module by name, on the CPU.

    Tensors that are plain attributes of a module are included, because the archive does not distinguish them from
    buffers.

    :param what: names the file in the error.
    :raises GuidelensError: the archive is damaged, or holds what no module does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
            root = _Unpickler(archive, entry.partition("/")[0]).load()
        return dict(_named_tensors(root, "", 0, iter(range(_MOST_MODULES))))
    except Exception as error:  # unpickler and zip reader can raise anything for a damaged archive
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot read {what}: its TorchScript archive is damaged: {reason}") from error


class _Module:
    """Replaces every class of the archive's program. It only holds attributes."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """Builds modules as :class:`_Module`, tensors from entries of the archive, and nothing else.

    :param folder: the archive's top folder.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.UntypedStorage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the object for a name in the pickle. Only a fixed list is allowed, and none of it runs code."""
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name.endswith("Storage"):
            return _dtype(name)
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch.jit._pickle", "restore_type_tag"): _first,
            ("torch.jit._pickle", "build_intlist"): _first,
            ("torch.jit._pickle", "build_doublelist"): _first,
            ("torch.jit._pickle", "build_boollist"): _first,
            ("torch.jit._pickle", "build_tensorlist"): _first,
            ("torch", "device"): _device,
        }
        try:
            return known[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no module needs") from None

    def persistent_load(self, pid: Any) -> tuple[torch.UntypedStorage, torch.dtype]:
        """Return the numbers of an entry ``data/N`` and their dtype."""
        import torch

        kind, dtype, key, _device_name, _count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("it refers to something other than numbers")
        key = str(key)
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
            buffer = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            self._storages[key] = buffer.untyped_storage()
        return self._storages[key], dtype


def _dtype(storage: str) -> torch.dtype:
    import torch

    dtypes = {
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "FloatStorage": torch.float32,
        "DoubleStorage": torch.float64,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }
    if storage not in dtypes:
        raise pickle.UnpicklingError(f"it holds a {storage}; only plain numbers can be read")
    return dtypes[storage]


def _tensor(stored: Any, offset: int, size: Any, stride: Any, *_options: Any) -> Tensor:
    import torch

    storage, dtype = stored
    tensor = torch.empty(0, dtype=dtype)
    tensor.set_(storage, offset, tuple(size), tuple(stride))  # raises if there are too few numbers
    return tensor


def _first(value: Any, *_tags: Any) -> Any:
    return value


def _device(*_name: Any) -> None:
    return None


def _named_tensors(
    module: Any, prefix: str, depth: int, budget: Iterator[int]
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors by name. ``budget`` and ``depth`` limit modules that refer to themselves."""
    import torch

    if depth > _DEEPEST or next(budget, None) is None:
        raise pickle.UnpicklingError("its modules contain one another")
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _named_tensors(value, f"{prefix}{name}.", depth + 1, budget)
