"""A network of diffusers and its training process as a guidelens generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from guidelens.contracts import FixedVariance, Prediction
from guidelens.errors import GuidelensError, UsageError
from torch import Tensor, nn

from .decoder import LatentDecoder, latent_channels, upscaling_of
from .networks import (
    DIT,
    FLOW_NETWORKS,
    TEXT_NETWORKS,
    check_network,
    checked_label,
    divisor_of,
    evaluate,
    kind_of,
    largest_side,
    with_defaults,
)
from .process import TrainingProcess
from .text import SEEN_TEXT

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Description:
    """The checked configuration of a network and its decoder.

    :param kind: the network's class.
    :param image_shape: (C, H, W) of the diffused tensor.
    :param picture_shape: (3, h, w); the same for pixels.
    :param class_label: the class that the network draws; None without classes.
    """

    kind: str
    config: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    picture_shape: tuple[int, int, int]
    class_label: int | None

    @property
    def patches(self) -> int:
        """The number of 2x2 patches: the length of a flow transformer's sequence."""
        _, height, width = self.image_shape
        return (height // 2) * (width // 2)

    def learned_variance(self, process: TrainingProcess) -> bool:
        """Whether the network learned its variance.

        :raises GuidelensError: its channels contradict its process.
        """
        into, out = self.config["in_channels"], self.config["out_channels"]
        unsaid = process.learned_variance is None or self.kind == DIT  # whose schedulers do not state it
        learned = out == 2 * into if unsaid else bool(process.learned_variance)
        if out != into * (2 if learned else 1):
            said = "a learned" if learned else "no learned"
            raise GuidelensError(
                f"this network maps {into} channels to {out}, and its scheduler says {said} variance: they do not "
                "belong together"
            )
        return learned

    def check(self, process: TrainingProcess) -> None:
        """:raises GuidelensError: the process does not fit this network."""
        self.learned_variance(process)
        if self.kind in FLOW_NETWORKS and process.path is None:
            raise GuidelensError(
                f"a {self.kind} predicts the velocity of flow matching, and its scheduler is of another process: "
                "give a FlowMatchEulerDiscreteScheduler (scheduler=FILE)"
            )


def describe(
    network: Mapping[str, Any],
    decoder: Mapping[str, Any] | None,
    *,
    image_size: int | None,
    class_label: int | None,
) -> Description:
    """Read the configurations of a network and a decoder. ``_class_name`` gives the class of each.

    :param image_size: height and width in pixels; None takes the network's own.
    :raises UsageError: an image size or a class label that the network cannot take, or lacks.
    :raises GuidelensError: guidance cannot work with the network.
    """
    kind = kind_of(network)
    check_network(network, kind)
    config = with_defaults(network, kind)
    factor = 1 if decoder is None else upscaling_of(decoder)
    _check_channels(config["in_channels"], decoder)
    height, width = _sides(config, kind, factor, image_size)
    return Description(
        kind=kind,
        config=config,
        image_shape=(config["in_channels"], height, width),
        picture_shape=(IMAGE_CHANNELS, factor * height, factor * width),
        class_label=checked_label(config, kind, class_label),
    )


class DiffusersGenerator(nn.Module):
    """A network of diffusers as :class:`guidelens.contracts.Generator`.

    :param network: a ``UNet2DModel`` or one of the other classes of :data:`~guidelens_diffusers.networks.NETWORKS`,
        which is frozen.
    :param process: its training process; see :func:`~guidelens_diffusers.process.training_process`.
    :param image_size: height and width in pixels; None takes the network's ``sample_size``.
    :param class_label: the class that a class-conditional network draws. None for an unconditional network, and for the
        null class of a DiT.
    :param decoder: the decoder of latents; None for a network of RGB pixels in [-1, 1].
    :param prompt: the empty prompt of a network conditioned on text; see
        :func:`~guidelens_diffusers.text.empty_prompt`.
    :raises UsageError: an image size or a class label that the network cannot take, or lacks.
    :raises GuidelensError: guidance cannot work with the network, or the process does not fit its output.
    """

    def __init__(
        self,
        network: nn.Module,
        process: TrainingProcess,
        *,
        image_size: int | None = None,
        class_label: int | None = None,
        decoder: LatentDecoder | None = None,
        prompt: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        own: Any = network.config  # of diffusers, which has no types
        config = {**own, "_class_name": type(network).__name__}
        coded: dict[str, Any] | None = None
        if decoder is not None:
            decoding: Any = decoder.vae.config
            coded = {**decoding, "_class_name": type(decoder.vae).__name__}
        described = describe(config, coded, image_size=image_size, class_label=class_label)
        described.check(process)
        self.kind = described.kind
        self.image_shape = described.image_shape
        self.picture_shape = described.picture_shape
        self.class_label = described.class_label
        self.learned_variance = described.learned_variance(process)
        self.network = network.eval().requires_grad_(False)
        self.path = process.path
        self.alphas_cumprod = process.alphas_cumprod
        self.prediction: Prediction = process.prediction
        self.fixed_variance: FixedVariance = process.fixed_variance
        if described.kind in TEXT_NETWORKS and prompt is None:
            raise UsageError(
                f"a {described.kind} is conditioned on text: give the empty prompt (empty_prompt)"
            )
        self._conditions = tuple(prompt or {})
        for name, tensor in (prompt or {}).items():
            self.register_buffer(f"condition_{name}", tensor.float())
        self.notes: tuple[str, ...] = (SEEN_TEXT,) if described.kind in TEXT_NETWORKS else ()
        self.decode: LatentDecoder | None = decoder
        self.fingerprint = self._fingerprint(own)

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Map (B, C, H, W) and training timesteps (B,) to (B, C or 2C, H, W)."""
        return (
            self._evaluate(x_t, timesteps)
            if self.path is None
            else self.path.x0(self._evaluate, x_t, timesteps)
        )

    def _evaluate(self, x: Tensor, times: Tensor) -> Tensor:
        conditions = {name: getattr(self, f"condition_{name}") for name in self._conditions}
        return evaluate(self.network, self.kind, x, times, self.class_label, conditions)

    def checkpointing(self, enabled: bool) -> None:
        """Recompute activations in the backward pass, or keep them. The results are the same."""
        models: list[Any] = [self.network, *([] if self.decode is None else [self.decode.vae])]
        for model in models:
            if not getattr(model, "_supports_gradient_checkpointing", False):
                continue
            if enabled:
                model.enable_gradient_checkpointing()
            else:
                model.disable_gradient_checkpointing()

    def _fingerprint(self, config: Mapping[str, Any]) -> str:
        """Return 16 hex digits of the SHA-256 of everything that affects a picture."""
        described = {
            "network": _public(config),
            "prediction": self.prediction,
            "learned_variance": self.learned_variance,
            "fixed_variance": self.fixed_variance,
            "image_shape": self.image_shape,
            "class_label": self.class_label,
            "alphas_cumprod": self.alphas_cumprod.tolist(),
        }
        if self.path is not None:
            described["path"] = {name: table.tolist() for name, table in vars(self.path).items()}
        if self.decode is not None:
            described["decoder"] = _public(self.decode.vae.config)  # type: ignore[arg-type]
        digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
        _add(digest, self.network.state_dict().items())
        if self.decode is not None:
            _add(digest, self.decode.vae.state_dict().items())
        _add(digest, ((name, getattr(self, f"condition_{name}")) for name in self._conditions))
        return digest.hexdigest()[:16]


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _add(digest: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(values.astype("<f4", copy=False).reshape(-1).data.cast("B"))


def _check_channels(channels: int, decoder: Mapping[str, Any] | None) -> None:
    if decoder is None and channels != IMAGE_CHANNELS:
        likely = "latents" if channels in (4, 16) else "grey or other images"
        raise GuidelensError(
            f"this network diffuses {channels} channels ({likely}, perhaps), and guidance models see RGB pixels: "
            f"take one of {IMAGE_CHANNELS} channels, or give the decoder of its latents (decoder=DIR)"
        )
    if decoder is not None and channels != latent_channels(decoder):
        raise GuidelensError(
            f"this network diffuses {channels} channels, and its decoder takes latents of {latent_channels(decoder)}: "
            "they do not belong together"
        )


def _sides(config: Mapping[str, Any], kind: str, factor: int, image_size: int | None) -> tuple[int, int]:
    """Return the height and width of the tensor that the network diffuses."""
    size = config["sample_size"]
    if image_size is not None:
        if image_size % factor:
            raise UsageError(
                f"{image_size} pixels do not fit the decoder: one latent is {factor} pixels wide"
            )
        size = image_size // factor
    if size is None:
        raise UsageError(
            "the network does not say how large its images are: give diffusers:image_size=PIXELS"
        )
    height, width = (size, size) if isinstance(size, int) else size
    divisor, most = divisor_of(config, kind), largest_side(config, kind)
    pixels = f"images of {factor * height}x{factor * width}"
    if min(height, width) < 1 or height % divisor or width % divisor:
        raise UsageError(f"{pixels} do not fit this network: it halves them to 1/{factor * divisor}")
    if most is not None and max(height, width) > most:
        raise UsageError(f"{pixels} are too large for this network: at most {factor * most} pixels")
    return height, width
