"""Find a network's tensors in the checkpoints of common training programs.

Every component reads its weights with :func:`read_state`. A checkpoint is a table of named tensors, or a container of
such tables under names like ``model``, ``state_dict`` or ``ema``, beside optimizer states and counters. Wrappers of
training frameworks lengthen the names: ``module.`` of DistributedDataParallel, ``_orig_mod.`` of ``torch.compile``,
``model.`` of a Lightning module. A component gives *anchors*, names that every network of its kind has, and gets the
table with these names, under the network's own names. If several tables fit, such as the weights and their moving
average, the user chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError

from .averages import advice, is_average, named_by_order, unnamed, without_dots
from .plain import identity, plain
from .reading import Format, format_of, read_safetensors, read_torch
from .sharded import check_whole, is_index, read_index
from .torchscript import read_torchscript

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_INSERTED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts of names that wrappers insert at any position: torch.compile, FSDP, activation checkpointing, Lightning
Fabric."""
_LEADING = frozenset({"module"})
"""Prefixes of wrappers: DataParallel, DistributedDataParallel, DeepSpeed, AveragedModel."""
_OUTER = frozenset(
    {"model", "net", "network", "unet", "ema_model", "ema", "online_model", "generator", "denoise_fn"}
)
"""Names that training programs use for the attribute with their network."""
_COUNTER = "n_averaged"
"""The entry of torch's AveragedModel that is not an averaged tensor. Those have the prefix ``module.``."""
_OF_OPTIMIZER = ("exp_avg", "exp_avg_sq", "momentum_buffer", "fp32_groups_flat")
_DEEPEST = 8
_MOST_ENTRIES = 1_000_000
_SHOWN = 6


@dataclass(frozen=True)
class State:
    """The tensors of one network.

    :param tensors: by the network's own names, on the CPU, mapped from the file where possible.
    :param key: the entry of the file with the tensors; empty for the top level.
    :param metadata: of a safetensors file.
    :param format: of the file.
    :param renamed: number of names from which a wrapper's parts were removed.
    """

    tensors: dict[str, Tensor]
    key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    format: Format = "torch"
    renamed: int = 0


@dataclass(frozen=True)
class _Found:
    """A table that may be the network: its place, the prefix of its names, and the number of changed names."""

    label: str
    tensors: dict[str, Tensor]
    renamed: int


def read_state(
    path: Path,
    what: str,
    *,
    anchors: Sequence[str] = (),
    key: str | None = None,
    option: str = "key=",
    contents: str = "weights",
) -> State:
    """Return the tensors of the network in a file, or in the files of an index. Sparse tensors become dense.

    :param what: names the file in errors, such as ``f"{path} as a BLIP checkpoint"``.
    :param anchors: names of tensors; every network of the wanted kind has one of them. Without any, the only table in
        the file is the network.
    :param key: the entry to take if several fit: ``ema``, or ``state_dict.ema_model``.
    :param option: spelling of the option ``key`` in messages.
    :param contents: the allowed content, for messages.
    :raises UsageError: several tables fit and ``key`` is missing, or nothing fits ``key``.
    :raises GuidelensError: the file is missing, unreadable, damaged, or holds no network.
    """
    payload, metadata, kind, size = _read(path, what, contents)
    found = _chosen(payload, path, anchors, key, option)
    tensors = plain(found.tensors, path, size)
    if found.label or found.renamed:
        logger.info("%s: weights of %s, %d names shortened", path, found.label or "the file", found.renamed)
    return State(tensors, found.label, metadata, kind, found.renamed)


def _read(path: Path, what: str, contents: str) -> tuple[Any, dict[str, str], Format, int]:
    """Return the content of a file or an index, its metadata, its format and the size of all files."""
    if is_index(path):
        shards = read_index(path, what, contents=contents)
        return shards.tensors, {}, shards.format, shards.size
    kind = format_of(path, what)
    check_whole(path, what)
    size = path.stat().st_size
    if kind == "safetensors":
        return *read_safetensors(path, what), kind, size
    if kind == "torchscript":
        return read_torchscript(path, what), {}, kind, size
    return read_torch(path, what, contents=contents), {}, kind, size


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Check that weights are finite.

    :param source: names the file in the error.
    :raises GuidelensError: a tensor contains NaN or infinity. The message names the first and counts them.
    """
    import torch

    wrong = []
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.sum(dtype=torch.float64))):
            wrong.append(name)
    if wrong:
        count = int((~torch.isfinite(tensors[wrong[0]].float())).sum())
        more = f", and {len(wrong) - 1} other tensors too" if wrong[1:] else ""
        raise GuidelensError(
            f"{source} holds NaN or infinite weights: {count} of {tensors[wrong[0]].numel()} numbers of {wrong[0]}"
            f"{more}; its training diverged or the file is damaged: take an earlier checkpoint"
        )


def own_name(name: str) -> str:
    """Return a tensor's name without parts from wrappers: ``module._orig_mod.a.weight`` is ``a.weight``."""
    parts = [part for part in name.split(".") if part not in _INSERTED]
    while len(parts) > 1 and parts[0] in _LEADING:
        del parts[0]
    return ".".join(parts)


def _chosen(payload: Any, path: Path, anchors: Sequence[str], key: str | None, option: str) -> _Found:
    """Return the table that is the network."""
    tables = list(_tables(payload, (), iter(range(_MOST_ENTRIES))))
    found = _distinct([each for at, table in tables for each in _networks(at, table, anchors)])
    if not found:  # no network of this kind; the caller reports what is missing
        found = [_Found(".".join(at), *_shortened(table)) for at, table in tables]
    averages, unfitting = _averages(payload, tables, found)
    found += averages
    if key is not None:
        return _by_key(found, path, key)
    if not found:
        raise GuidelensError(_nothing(payload, path))
    if len(found) > 1:
        raise UsageError(_several(found, path, option))
    for label in unfitting:
        logger.warning("%s: taking %s; %s", path, found[0].label or "the tensors at its top", advice(label))
    return found[0]


def _averages(
    payload: Any, tables: Sequence[tuple[tuple[str, ...], dict[str, Tensor]]], found: Sequence[_Found]
) -> tuple[list[_Found], list[str]]:
    """Return the averages without names that fit a network of the file, and the labels of the others."""
    fitting, others = [], []
    for label, average in unnamed(payload):
        named = next((fit for each in found if (fit := named_by_order(average, each.tensors))), None)
        if named is not None:
            fitting.append(_Found(label, named, 0))
        elif is_average(label):
            others.append(label)
    for at, table in tables:
        for each in found:
            if (*each.label.split("."),)[: len(at)] != at:
                continue
            prefix = ".".join(each.label.split(".")[len(at) :])
            for module, named in without_dots(table, prefix, each.tensors):
                fitting.append(_Found(".".join((*at, module)), named, 0))
    return _distinct(fitting), others


def _tables(
    value: Any, at: tuple[str, ...], budget: Iterator[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield every table of named tensors in a checkpoint, except those of optimizers, with its path.

    :param budget: limits the visited entries, because a small file can refer to itself without end.
    """
    import torch

    if len(at) > _DEEPEST or next(budget, None) is None or _is_optimizer(value):
        return
    if isinstance(value, list | tuple):
        value = {str(index): entry for index, entry in enumerate(value) if isinstance(entry, Mapping)}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return
    below = [found for name, entry in value.items() if name for found in _tables(entry, (*at, name), budget)]
    tensors = {name: entry for name, entry in value.items() if isinstance(entry, torch.Tensor)}
    if below:
        yield from below
    # A container may have a tensor as counter or random state. A network has more tensors.
    elif any(t.is_floating_point() or t.is_complex() or t.is_quantized for t in tensors.values()):
        yield at, tensors


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return {"state", "param_groups"} <= value.keys() or any(name in value for name in _OF_OPTIMIZER)


def _networks(at: tuple[str, ...], table: dict[str, Tensor], anchors: Sequence[str]) -> Iterator[_Found]:
    """Yield the networks of a table, one for each prefix under which an anchor is found."""
    if not anchors:
        yield _Found(".".join(at), *_shortened(table))
        return
    short, _ = _shortened(table)
    prefixes: dict[str, None] = {}
    for anchor in anchors:
        for name in short:
            if name == anchor or name.endswith(f".{anchor}"):
                prefixes[name.removesuffix(anchor)] = None
        if prefixes:
            break
    for prefix in prefixes:
        tensors = _below(prefix, short)
        label = ".".join((*at, *([prefix.rstrip(".")] if prefix else [])))
        yield _Found(label, tensors, sum(name not in table for name in tensors))


def _below(prefix: str, table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network under ``prefix``, including tensors without the prefix or with a wrapper's prefix."""
    inner = {name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)}
    heads = {name.split(".")[0] for name in inner}
    if prefix:
        kept = inner
        rest = {name: tensor for name, tensor in table.items() if name.split(".")[0] in heads}
    else:
        wrapped = {
            name: name.partition(".")[2]
            for name in inner
            if name.split(".")[0] in _OUTER and name.split(".")[1:2] and name.split(".")[1] in heads
        }
        kept = {name: tensor for name, tensor in inner.items() if name not in wrapped}
        rest = {short: inner[name] for name, short in wrapped.items()}
    return {**{name: tensor for name, tensor in rest.items() if name not in kept}, **kept}


def _shortened(table: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Return a table under its own names, and the number of changed names. If a short name is taken already, the long
    one is kept.
    """
    short: dict[str, Tensor] = {}
    averaged = _COUNTER in table and any(name.startswith("module.") for name in table)
    for name, tensor in table.items():
        if averaged and name == _COUNTER:
            continue
        own = own_name(name)
        short[name if own != name and (own in table or own in short) else own] = tensor
    return short, sum(name not in table for name in short)


def _distinct(found: list[_Found]) -> list[_Found]:
    """Drop duplicates, for example if ``model`` and ``state_dict`` are the same table."""
    kept: list[_Found] = []
    seen: set[tuple[object, ...]] = set()
    for each in found:
        mark = tuple((name, identity(tensor)) for name, tensor in list(each.tensors.items())[:_SHOWN])
        if mark not in seen:
            kept.append(each)
        seen.add(mark)
    return kept


def _by_key(found: list[_Found], path: Path, key: str) -> _Found:
    wanted = key.strip(".")
    exact = [each for each in found if each.label == wanted]
    near = [
        each
        for each in found
        if each.label.endswith(f".{wanted}")
        or each.label.startswith(f"{wanted}.")
        or f".{wanted}." in each.label
    ]
    matching = exact or near
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageError(f"{key!r} fits {_listed(matching)} of {path}; give one of them in full")
    here = (
        f"it has them in {_listed(found)}"
        if any(each.label for each in found)
        else "its tensors are at the top"
    )
    raise UsageError(f"{path} holds no named tensors in {key!r}; {here if found else 'no entry of it has'}")


def _several(found: list[_Found], path: Path, option: str) -> str:
    averages = [each.label for each in found if is_average(each.label)]
    hint = (
        f" ({averages[0]} is the moving average, which pictures are usually drawn with)" if averages else ""
    )
    return (
        f"{path} holds named tensors in {_listed(found)}; choose with {option}"
        + ("NAME" if option.endswith("=") else "")
        + hint
    )


def _listed(found: Sequence[_Found]) -> str:
    labels = [each.label or "the top level" for each in found]
    return ", ".join(labels[:_SHOWN]) + (", ..." if labels[_SHOWN:] else "")


def _nothing(payload: Any, path: Path) -> str:
    """Return a message about the content of a file without a table of tensors."""
    if _is_optimizer(payload):
        return (
            f"{path} holds the state of an optimizer, not a network: take the weights saved beside it, model*.pt or "
            "(the moving average) ema_*.pt"
        )
    if not isinstance(payload, Mapping):
        return f"{path} holds no table of named tensors, but a {type(payload).__name__}"
    lists = [label for label, _ in unnamed(payload)]
    if lists:
        return f"{path} holds no table of named tensors: {advice(lists[0])}"
    names = ", ".join(repr(name) for name in list(payload)[:_SHOWN])
    held = f"; it holds {names}{', ...' if len(payload) > _SHOWN else ''}" if payload else "; it is empty"
    return f"{path} holds no table of named tensors{held}"
