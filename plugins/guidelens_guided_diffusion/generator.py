"""A UNet and its training process as a guidelens generator, and its safetensors format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from guidelens.bench import REFERENCE, Alternative
from guidelens.contracts import FixedVariance, Prediction
from guidelens.diffusion import KeyedNoise, alphas_cumprod_of, beta_schedule
from guidelens.errors import GuidelensError, MissingPackageError, UsageError
from guidelens.files import replacing
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint import FORMAT, build_unet, read_checkpoint
from .compiled import CompiledUNet
from .description import IMAGENET_CLASSES, Description, ScheduleName
from .flags import UNetFlags
from .graphs import GraphedUNet
from .reference import ReferenceUNet
from .unet import SuperResUNet, UNet
from .untrained import untrained

Label = int | Literal["random", "none"]
"""What a class-conditional network draws: one class for all samples, a class per sample, or no class."""

NO_CLASS = (
    "label=none: this network was trained with classes, and draws without any here, which it has not met in training;"
    " label=random draws a class per picture"
)


class GuidedDiffusionGenerator(nn.Module):
    """A guided-diffusion UNet as :class:`guidelens.contracts.Generator`.

    ``GuidedDiffusionGenerator(UNet(**flags))`` has random weights, for tests and timings.

    :param unet: the network, which is frozen. With twice as many output as input channels it learns the variance.
    :param schedule: the training noise schedule, ``linear`` or ``cosine``.
    :param num_timesteps: T of the training process.
    :param prediction: the quantity that the network predicts (the first channels of its output).
    :param rescale_timesteps: the network was trained on t * 1000 / T.
    :param fixed_variance: Sigma of the reverse steps, if the network does not learn it.
    :param label: the class that a class-conditional network draws, 0 to num_classes - 1; ``random``: a class per
        sample, drawn from its seed; ``none``: no class embedding. None for other networks.
    :param size: (height, width) of the pictures; None: the network's ``image_size``.
    :param notes: notes about the network for readers of results.
    :param compile: run the network with ``torch.compile``.
    :param graphs: run small batches as CUDA graphs, see :mod:`.graphs`.
    :param fingerprint: hash of architecture, process, label and weights. Default: computed here.
    :raises UsageError: label and network do not fit together, the output has neither C nor 2C channels, or the
        process is unknown.
    """

    def __init__(
        self,
        unet: UNet,
        *,
        schedule: ScheduleName = "linear",
        num_timesteps: int = 1000,
        prediction: Prediction = "epsilon",
        rescale_timesteps: bool = False,
        fixed_variance: FixedVariance | None = None,
        label: Label | None = None,
        size: tuple[int, int] | None = None,
        notes: Sequence[str] = (),
        compile: bool = False,
        graphs: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        _check_network(unet, label)
        if prediction not in get_args(Prediction):
            raise UsageError(f"unknown prediction {prediction!r}; choose {', '.join(get_args(Prediction))}")
        self.unet = unet.eval().requires_grad_(False)
        height, width = _checked_size(unet, size)
        self.image_shape = (unet.in_channels, height, width)
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule(schedule, num_timesteps))
        self.prediction: Prediction = prediction
        self.learned_variance = unet.out_channels == 2 * unet.in_channels
        self.label = label
        self.notes = (*notes, *((NO_CLASS,) if label == "none" else ()))
        if label == "random":
            self.conditions = self._random_classes
        if fixed_variance is not None:
            self.fixed_variance: FixedVariance = fixed_variance
        self._time_unit = 1000 / num_timesteps if rescale_timesteps else None
        self._fast = _fast(unet, compile, graphs)
        identity: dict[str, Any] = {"flags": unet.flags.identity(), "schedule": schedule}
        identity |= {"num_timesteps": num_timesteps, "prediction": prediction}
        identity |= {"rescale_timesteps": True} if rescale_timesteps else {}
        identity |= {} if label is None else {"label": label}
        identity |= {} if height == width == unet.image_size else {"size": [height, width]}
        self.fingerprint = fingerprint or fingerprint_of(unet, identity)

    def forward(self, x_t: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) and training timesteps (B,) to (B, C or 2C, H, W).

        :param conditions: (B,) classes of the samples, with ``label=random``; None: those of seed 0.
        """
        if self._time_unit is not None:
            timesteps = timesteps.float() * self._time_unit
        network = self.unet if self._fast is None else self._fast
        if self.label == "none" and self._fast is None:
            return self.unet.without_class(x_t, timesteps)
        return cast(Tensor, network(x_t, timesteps, self._classes(x_t, conditions)))

    def _classes(self, x_t: Tensor, conditions: Tensor | None) -> Tensor | None:
        if self.label == "random":
            return (self._random_classes([0] * len(x_t)) if conditions is None else conditions).to(x_t.device)
        if self.label is None or self.label == "none":
            return None
        return torch.full((len(x_t),), self.label, dtype=torch.int64, device=x_t.device)

    def _random_classes(self, seeds: Sequence[int]) -> Tensor:
        """Return a class (B,) for each sample, from its seed alone."""
        u = (KeyedNoise(seeds).uniform((1,), "class").flatten().double() + 1) / 2
        classes = cast(int, self.unet.num_classes)
        return (u * classes).long().clamp(max=classes - 1)

    def checkpointing(self, enabled: bool) -> None:
        """Recompute activations stage by stage in the backward pass, or keep them."""
        self.unet.use_checkpoint = enabled

    def alternatives(self) -> dict[str, Alternative]:
        """Return other implementations of this network, for ``guidelens bench --against NAME``."""
        if self.label is not None or self._time_unit is not None:
            return {}  # neither supports these
        return {
            REFERENCE: Alternative(
                lambda: ReferenceUNet(self.unet.flags, self.unet.state_dict()),
                "as in the published code: two evaluations per step, in float32, without fused operations",
                passes=2,
                float32=True,
            ),
            "diffusers": Alternative(
                lambda: _in_diffusers(self.unet), "the same network as a UNet2DModel of diffusers"
            ),
            "compiled": Alternative(
                lambda: CompiledUNet(self.unet), "compiled (compile=true)", compiled=True
            ),
            "graphs": Alternative(
                lambda: _graphed(self.unet, None), "small batches as CUDA graphs (graphs=true)"
            ),
            "compiled-graphs": Alternative(
                lambda: _graphed(self.unet, CompiledUNet(self.unet)),
                "both (compile=true,graphs=true)",
                compiled=True,
            ),
        }


def _fast(unet: UNet, compile: bool, graphs: bool) -> CompiledUNet | GraphedUNet | None:
    compiled = CompiledUNet(unet) if compile else None
    return _graphed(unet, compiled) if graphs else compiled


def _graphed(unet: UNet, compiled: CompiledUNet | None) -> GraphedUNet:
    return GraphedUNet(unet, (lambda dtype: unet.predict) if compiled is None else compiled.prepared)


def _checked_size(unet: UNet, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the height and width of the pictures.

    :raises UsageError: the network cannot halve them at each level.
    """
    height, width = size or (unet.image_size, unet.image_size)
    factor = 2 ** (len(unet.flags.channel_mult) - 1)
    if min(height, width) < 1 or height % factor or width % factor:
        raise UsageError(
            f"pictures of {width}x{height} do not fit this network: width and height must be multiples of {factor}"
        )
    return height, width


def _check_network(unet: UNet, label: Label | None) -> None:
    """:raises UsageError: ``unet`` cannot be a generator, or does not fit the label."""
    if isinstance(unet, SuperResUNet):
        raise UsageError("an upsampler cannot be a generator, because it needs a small picture as input")
    classes = unet.num_classes
    if classes is None and label is not None:
        raise UsageError(f"this network is unconditional: leave out label={label}")
    if classes is not None and label is None:
        raise UsageError(
            f"this network is class-conditional: give label=0 to label={classes - 1}"
            + (", label=NAME of an ImageNet class (golden retriever)" if classes == IMAGENET_CLASSES else "")
            + ", label=random (a class for each picture) or label=none"
        )
    if classes is not None and label not in ("random", "none") and not 0 <= cast(int, label) < classes:
        raise UsageError(f"label={label} is not a class of this network: give 0 to {classes - 1}")
    if unet.out_channels not in (unet.in_channels, 2 * unet.in_channels):
        raise UsageError(
            f"a generator's output must have C channels, or 2C with a learned variance; this UNet maps "
            f"{unet.in_channels} to {unet.out_channels}"
        )


def _in_diffusers(unet: UNet) -> Callable[[Tensor, Tensor], Tensor]:
    if find_spec("diffusers") is None:
        raise MissingPackageError("to compare with diffusers, install it: guidelens install diffusers")
    from guidelens_diffusers import as_unet2d_model

    model = as_unet2d_model(unet.flags.to_dict(), unet.state_dict()).requires_grad_(False)
    return lambda x_t, timesteps: model(x_t, timesteps, return_dict=False)[0]


def fingerprint_of(module: nn.Module, description: Mapping[str, Any]) -> str:
    """Return 16 hex digits of the SHA-256 of a description and of a module's state: names, shapes, values.

    Values are hashed as little-endian float32, one tensor at a time. So the hash does not depend on the device, the
    file format or the storage precision. Weights that were rounded to half precision have another hash than the
    original ones. A float32 tensor on the CPU is not copied.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(values.astype("<f4", copy=False).reshape(-1).data.cast("B"))
    return digest.hexdigest()[:16]


def save_generator(
    path: Path,
    unet: UNet,
    flags: Mapping[str, Any],
    *,
    schedule: ScheduleName,
    prediction: Prediction,
    num_timesteps: int = 1000,
    rescale_timesteps: bool = False,
    fixed_variance: FixedVariance | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights and description into one safetensors file, atomically.

    :param flags: the constructor flags of ``unet``, stored as JSON in the file's metadata.
    :param dtype: precision of the stored weights. Half precision halves the file. Weights load as float32.
    :raises UsageError: ``flags`` describe another network.
    :raises GuidelensError: the file cannot be written.
    """
    if UNetFlags.from_mapping(flags).identity() != unet.flags.identity():
        raise UsageError("the flags to save are not the ones that the UNet was built with")
    described = Description(
        UNetFlags.from_mapping(flags), schedule, prediction, num_timesteps, rescale_timesteps, fixed_variance
    )
    description = {**described.to_dict(), "flags": dict(flags)}
    tensors = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in unet.state_dict().items()}
    metadata = {"format": FORMAT, "description": json.dumps(description)}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise GuidelensError(f"cannot write the generator {path}: {error}") from error


def load_generator(path: Path, *, label: Label | None = None) -> GuidedDiffusionGenerator:
    """Read a file that :func:`save_generator` wrote. No code in the file is executed.

    :param label: the class that a class-conditional network draws.
    :raises GuidelensError: the file is missing, unreadable, or not a guidelens generator.
    :raises UsageError: a label is missing, or given for an unconditional network.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.description is None:
        raise GuidelensError(f"{path} is not a guidelens generator: its metadata lacks format={FORMAT}")
    return described_generator(checkpoint.description, checkpoint.state, source=str(path), label=label)


def described_generator(
    description: Description,
    state: Mapping[str, Tensor] | None,
    *,
    source: str = "",
    label: Label | None = None,
    size: tuple[int | None, int | None] = (None, None),
    use_checkpoint: bool = False,
    compile: bool = False,
    graphs: bool = False,
    seed: int = 0,
) -> GuidedDiffusionGenerator:
    """Build the generator that ``description`` describes.

    :param state: its weights. None draws random ones with ``seed``, see :mod:`.untrained`.
    :param source: the name of ``state`` in errors.
    :param label: the class that a class-conditional network draws, ``random`` or ``none``.
    :param size: height and width of the pictures; None: the network's own.
    :param use_checkpoint: recompute activations in the backward pass, to save memory.
    :param compile: run the network with ``torch.compile``.
    :param graphs: run small batches as CUDA graphs.
    :raises GuidelensError: the weights do not fit.
    :raises UsageError: as :class:`GuidedDiffusionGenerator`.
    """
    # The engine decides on the precision.
    flags = description.with_flags(use_checkpoint=use_checkpoint, use_fp16=False).flags
    unet = untrained(UNet, flags, seed) if state is None else build_unet(flags, state, source=source)
    return GuidedDiffusionGenerator(
        unet,
        schedule=description.schedule,
        num_timesteps=description.num_timesteps,
        prediction=description.prediction,
        rescale_timesteps=description.rescale_timesteps,
        fixed_variance=None if flags.out_channels != flags.in_channels else description.fixed_variance,
        label=label,
        size=(size[0] or flags.image_size, size[1] or flags.image_size),
        notes=description.guesses,
        compile=compile,
        graphs=graphs,
    )
