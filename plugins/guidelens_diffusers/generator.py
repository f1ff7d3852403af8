"""A UNet2DModel and its training process as a guidelens generator; loading one from a pipeline's files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from guidelens.contracts import FixedVariance, Prediction
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import check_finite
from guidelens.weights.reading import format_of
from torch import Tensor, nn

from .files import WEIGHTS, PipelineFiles, read_pipeline
from .process import TrainingProcess, training_process

if TYPE_CHECKING:
    from diffusers import UNet2DModel

IMAGE_CHANNELS = 3


class DiffusersGenerator(nn.Module):
    """A ``UNet2DModel`` as :class:`guidelens.contracts.Generator`.

    :param unet: the network, which is frozen. Its samples are RGB in [-1, 1], as diffusers's pipelines have it.
    :param process: what it was trained with; see :func:`~guidelens_diffusers.process.training_process`.
    :param image_size: height and width in pixels; None takes the network's ``sample_size``.
    :param class_label: what a class-conditional network draws; None for an unconditional one.
    :raises UsageError: an image size or a class label that the network cannot take, or lacks.
    :raises GuidelensError: a network that guidance cannot work with, or whose output the process does not fit.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        process: TrainingProcess,
        *,
        image_size: int | None = None,
        class_label: int | None = None,
    ) -> None:
        super().__init__()
        config = dict(unet.config)
        self.image_shape = _image_shape(config, image_size)
        self.learned_variance = _learned_variance(config, process)
        self.class_label = _checked_label(config, class_label)
        self.unet = unet.eval().requires_grad_(False)
        self.alphas_cumprod = process.alphas_cumprod
        self.prediction: Prediction = process.prediction
        self.fixed_variance: FixedVariance = process.fixed_variance
        self.fingerprint = self._fingerprint(config)

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Map (B, 3, H, W) and training timesteps (B,) to (B, 3 or 6, H, W)."""
        labels = None
        if self.class_label is not None:
            labels = torch.full_like(timesteps, self.class_label)
        output: Tensor = self.unet(x_t, timesteps, class_labels=labels, return_dict=False)[0]
        return output

    def checkpointing(self, enabled: bool) -> None:
        """Recompute activations in the backward pass, or keep them; the numbers are the same."""
        if enabled:
            self.unet.enable_gradient_checkpointing()
        else:
            self.unet.disable_gradient_checkpointing()

    def _fingerprint(self, config: Mapping[str, Any]) -> str:
        """Return 16 hex digits of the SHA-256 of everything that decides a picture."""
        described = {
            "network": {name: value for name, value in config.items() if not name.startswith("_")},
            "prediction": self.prediction,
            "learned_variance": self.learned_variance,
            "fixed_variance": self.fixed_variance,
            "image_shape": self.image_shape,
            "class_label": self.class_label,
            "alphas_cumprod": self.alphas_cumprod.tolist(),
        }
        digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.unet.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
            digest.update(values.astype("<f4", copy=False).reshape(-1).data.cast("B"))
        return digest.hexdigest()[:16]


def load_generator(
    directory: Path,
    *,
    unet: str = "unet",
    variant: str | None = None,
    scheduler: Path | None = None,
    class_label: int | None = None,
    image_size: int | None = None,
) -> DiffusersGenerator:
    """Load a pipeline that diffusers saved, or a UNet2DModel alone where ``scheduler`` is given.

    The weights are safetensors, or a ``.bin`` read with ``weights_only``: no code in a file is run.

    :param directory: with ``model_index.json``, ``unet`` and ``scheduler``, all in one place, or nested.
    :param unet: the network's directory in it.
    :param variant: of the weights' file, such as ``fp16``; they are computed with in float32 in any case.
    :param scheduler: its configuration, or the directory of that, in place of the pipeline's own.
    :raises UsageError, GuidelensError: as :class:`DiffusersGenerator`; or files are missing or unreadable.
    """
    files = read_pipeline(directory, unet=unet, variant=variant, scheduler=scheduler)
    process = training_process(files.scheduler, source=f"the scheduler of {directory}")
    config = {**_NETWORK_DEFAULTS, **files.config}
    # What can be refused is refused before weights are read.
    _image_shape(config, image_size)
    _learned_variance(config, process)
    _checked_label(config, class_label)
    return DiffusersGenerator(
        _load_network(files, variant), process, image_size=image_size, class_label=class_label
    )


_NETWORK_DEFAULTS = {"sample_size": None, "in_channels": 3, "out_channels": 3}


def _load_network(files: PipelineFiles, variant: str | None) -> UNet2DModel:
    from diffusers import UNet2DModel

    for file in sorted(files.network.glob(f"{WEIGHTS}*.bin")):
        format_of(file, f"the network of {files.network}")  # refuses what could unpack to any size
    try:
        with _quiet():
            network, info = UNet2DModel.from_pretrained(
                str(files.network),
                local_files_only=True,
                low_cpu_mem_usage=False,
                use_safetensors=files.safetensors,
                variant=variant,
                ignore_mismatched_sizes=True,  # they are told below, all at once
                output_loading_info=True,
            )
    except Exception as error:  # a damaged file makes the libraries below trip over anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot load the network of {files.network}: {reason}") from error
    kinds = ("missing", "unexpected", "mismatched")
    wrong = {kind: [_first(key) for key in info[f"{kind}_keys"]] for kind in kinds}
    if found := [f"{len(keys)} tensors {kind} ({keys[0]}, ...)" for kind, keys in wrong.items() if keys]:
        raise GuidelensError(f"the weights in {files.network} do not fit its config.json: {'; '.join(found)}")
    loaded: UNet2DModel = network.float()
    check_finite(loaded.state_dict(), str(files.network))
    return loaded


def _first(key: str | tuple[str, ...]) -> str:
    """Return a tensor's name; diffusers lists those of another shape together with both shapes."""
    return key if isinstance(key, str) else str(key[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep diffusers from logging what is raised, or is of no use here."""
    log = logging.getLogger("diffusers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _image_shape(config: Mapping[str, Any], image_size: int | None) -> tuple[int, int, int]:
    channels = config["in_channels"]
    if channels != IMAGE_CHANNELS:
        likely = "latents" if channels == 4 else "grey or other images"
        raise GuidelensError(
            f"this network diffuses {channels} channels ({likely}, perhaps), and guidance models see RGB pixels: "
            f"take one of {IMAGE_CHANNELS} channels"
        )
    size = config["sample_size"] if image_size is None else image_size
    if size is None:
        raise UsageError(
            "the network does not say how large its images are: give diffusers:image_size=PIXELS"
        )
    height, width = (size, size) if isinstance(size, int) else size
    factor = 2 ** (len(config.get("block_out_channels", (0,))) - 1)
    if min(height, width) < 1 or height % factor or width % factor:
        raise UsageError(f"images of {height}x{width} do not fit this network: it halves them to 1/{factor}")
    return (channels, height, width)


def _learned_variance(config: Mapping[str, Any], process: TrainingProcess) -> bool:
    if config.get("time_embedding_type", "positional") == "fourier":
        raise GuidelensError(
            "this network is told noise levels (time_embedding_type=fourier), where guidelens has timesteps"
        )
    if config.get("class_embed_type") is not None:
        raise GuidelensError(
            f"this network is conditioned on a {config['class_embed_type']} vector (class_embed_type): a "
            "generator knows none"
        )
    into, out = config["in_channels"], config["out_channels"]
    learned = out == 2 * into if process.learned_variance is None else process.learned_variance
    if out != into * (2 if learned else 1):
        said = "a learned" if learned else "no learned"
        raise GuidelensError(
            f"this network maps {into} channels to {out}, and its scheduler says {said} variance: they do not "
            "belong together"
        )
    return learned


def _checked_label(config: Mapping[str, Any], label: int | None) -> int | None:
    classes = config.get("num_class_embeds")
    if classes is None:
        if label is not None:
            raise UsageError(f"this network knows no classes: leave out class_label={label}")
        return None
    if label is None:
        raise UsageError(
            f"this network is class-conditional: choose what it draws, diffusers:class_label=0 to {classes - 1}"
        )
    if not 0 <= label < classes:
        raise UsageError(f"there is no class {label}: this network has 0 to {classes - 1}")
    return label
