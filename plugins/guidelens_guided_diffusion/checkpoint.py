"""Read checkpoints and fit them to a UNet: no code in a file is run, no weight is initialised in vain.

Three kinds of file are read: PyTorch's ``.pt`` holding a table of named tensors, as OpenAI published them;
``.safetensors`` with the same names; and guidelens's own, which is safetensors whose metadata holds
``format`` = :data:`FORMAT` and ``description``, a JSON object with ``flags``, ``schedule``, ``prediction``
and ``num_timesteps``, and where needed ``rescale_timesteps`` and ``fixed_variance``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights.reading import read_torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .description import Description
from .diagnosis import advice
from .encoder import EncoderUNet
from .flags import EncoderFlags, UNetFlags
from .unet import UNet

FORMAT = "guidelens-generator-1"
NetworkT = TypeVar("NetworkT", bound=nn.Module)
_DESCRIBED = ("flags", "schedule", "prediction", "num_timesteps")
_NAMED = 3


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    :param state: tensors by state-dict name, where possible mapped from the file rather than read.
    :param description: what guidelens's own format says about them; None for other files.
    """

    state: dict[str, Tensor]
    description: Description | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file's tensors onto the CPU.

    :raises GuidelensError: the file is missing, unreadable, or holds no table of named tensors.
    """
    if not path.is_file():
        raise GuidelensError(f"there is no checkpoint file {path}")
    checkpoint = _read_safetensors(path) if path.suffix == ".safetensors" else Checkpoint(_read_torch(path))
    if not checkpoint.state:
        raise GuidelensError(f"{path} is no UNet checkpoint: it is empty")
    return checkpoint


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise GuidelensError(f"cannot read {path} as safetensors: {_first_line(error)}") from error
    if metadata.get("format") != FORMAT:
        return Checkpoint(state)
    try:
        values = json.loads(metadata["description"])
        flags = dict({name: values[name] for name in _DESCRIBED}["flags"])
    except (KeyError, TypeError, ValueError) as error:
        raise GuidelensError(
            f"{path} says format={FORMAT}, but its description is damaged: {error!r}"
        ) from error
    try:
        return Checkpoint(state, Description(**{**values, "flags": UNetFlags.from_mapping(flags)}))
    except (TypeError, UsageError) as error:  # not the user's spelling: the file's
        raise GuidelensError(f"{path}: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    payload = read_torch(path, f"{path} as a PyTorch checkpoint")
    if not isinstance(payload, Mapping):
        raise GuidelensError(
            f"{path} is no UNet checkpoint: it holds a {type(payload).__name__}, no named tensors"
        )
    if other := [name for name, value in payload.items() if not isinstance(value, Tensor)]:
        raise GuidelensError(
            f"{path} is no UNet checkpoint: {_listed([repr(name) for name in other])} "
            f"{'is' if len(other) == 1 else 'are'} no tensor; save the network's state dict alone"
        )
    return {str(name): value for name, value in payload.items()}


def build_unet(flags: UNetFlags, state: Mapping[str, Tensor], *, source: str) -> UNet:
    """Build a network around the tensors of ``state``, which become its parameters, in float32.

    Float32 tensors are used as they are (shared memory, mapped files included), others are converted.

    :param source: what to call ``state`` in an error.
    :raises GuidelensError: the names or shapes are not those of ``flags``; says which flags and what would fit.
    """
    return _filled(UNet, flags, state, source)


def build_encoder(flags: EncoderFlags, state: Mapping[str, Tensor], *, source: str) -> EncoderUNet:
    """Build a classifier, as :func:`build_unet` does a UNet."""
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
