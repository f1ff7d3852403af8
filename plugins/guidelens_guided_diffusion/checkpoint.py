"""Read checkpoints and build networks from them. No code in a file is run, and no weight is initialised first.

Three formats are read:

- PyTorch's ``.pt`` with a table of named tensors, as OpenAI published them, or as part of a training program's state;
- ``.safetensors`` with the same names;
- guidelens's own format: safetensors with metadata ``format`` = :data:`FORMAT` and ``description``, a JSON object
  with ``flags``, ``schedule``, ``prediction`` and ``num_timesteps``, and if needed ``rescale_timesteps`` and
  ``fixed_variance``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import check_finite, read_state
from torch import Tensor, nn

from .description import Description
from .diagnosis import advice
from .encoder import EncoderUNet
from .flags import EncoderFlags, UNetFlags
from .unet import UNet

FORMAT = "guidelens-generator-1"
ANCHORS = ("time_embed.0.weight", "input_blocks.0.0.weight")
"""Tensor names that every UNet and every classifier has. They locate the network in a larger file."""
NetworkT = TypeVar("NetworkT", bound=nn.Module)
_DESCRIBED = ("flags", "schedule", "prediction", "num_timesteps")
_NAMED = 3


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    :param state: tensors by state-dict name. If possible they are memory-mapped.
    :param description: the description in guidelens's own format; None for other files.
    """

    state: dict[str, Tensor]
    description: Description | None = None


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a file's tensors onto the CPU. The network may be part of a training program's state.

    :param key: the entry to read, if the file holds several networks (:func:`guidelens.weights.read_state`).
    :raises UsageError: the file holds several networks and ``key`` is missing, or nothing fits ``key``.
    :raises GuidelensError: the file is missing, unreadable, or holds no table of named tensors.
    """
    if not path.is_file():
        raise GuidelensError(f"there is no checkpoint file {path}")
    found = read_state(path, f"{path} as a UNet checkpoint", anchors=ANCHORS, key=key, contents="tensors")
    if found.metadata.get("format") != FORMAT:
        return Checkpoint(found.tensors)
    return Checkpoint(found.tensors, _described(path, found.metadata))


def _described(path: Path, metadata: Mapping[str, str]) -> Description:
    """Return the description in the metadata, or None if the file is not in guidelens's own format."""
    try:
        values = json.loads(metadata["description"])
        flags = dict({name: values[name] for name in _DESCRIBED}["flags"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GuidelensError(
            f"{path} says format={FORMAT}, but its description is damaged: {error!r}"
        ) from error
    try:
        return Description(**{**values, "flags": UNetFlags.from_mapping(flags)})
    except (TypeError, UsageError) as error:  # the file is wrong, not the user's input
        raise GuidelensError(f"{path}: {error}") from error


def build_unet(flags: UNetFlags, state: Mapping[str, Tensor], *, source: str) -> UNet:
    """Build a network whose float32 parameters are the tensors of ``state``.

    Float32 tensors are used without a copy, also if they are mapped from a file. Others are converted.

    :param source: the name of ``state`` in errors.
    :raises GuidelensError: names or shapes do not fit ``flags``. The error names the flags that differ.
    """
    return _filled(UNet, flags, state, source)


def build_encoder(flags: EncoderFlags, state: Mapping[str, Tensor], *, source: str) -> EncoderUNet:
    """Build a classifier in the same way as :func:`build_unet`."""
    return _filled(EncoderUNet, flags, state, source)


def _filled(
    network_class: Callable[..., NetworkT], flags: UNetFlags, state: Mapping[str, Tensor], source: str
) -> NetworkT:
    with torch.device("meta"):  # no memory, no random initialisation
        network = network_class(**flags.to_dict())
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if problems := _problems(own, state):
        what_to_do = advice(flags, {name: tuple(tensor.shape) for name, tensor in state.items()})
        raise GuidelensError(f"{source} does not hold this network: {'; '.join(problems)}; {what_to_do}")
    check_finite({name: state[name] for name in own}, source)
    network.load_state_dict({name: state[name].float() for name in own}, assign=True)
    return network


def _problems(own: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> list[str]:
    """Describe what is missing, unexpected or of another shape, naming the first few of each."""
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {_shape(state[name].shape)} instead of {_shape(shape)}"
        for name, shape in own.items()
        if name in state and state[name].shape != shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("different", shapes))
    return [f"{len(names)} tensors {what} ({_listed(names)})" for what, names in found if names]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
