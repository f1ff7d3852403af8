"""A model of transformers as a guidance model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence

import torch
from guidelens.contracts import TextBatch
from guidelens.errors import UsageError
from guidelens.guidance import check_request
from guidelens.networks import kept_dtype
from torch import Tensor

from .networks import Network
from .precision import without_downcasts


class TransformersGuidance:
    """A model of transformers as a :class:`guidelens.contracts.GuidanceModel`.

    The model runs in evaluation mode with frozen parameters. Losses are per sample: padding, order and the other
    samples of the batch do not change them (up to rounding). They are computed in float32 from the network's outputs,
    or in float64 for a float64 network.
    """

    def __init__(self, network: Network, weights: torch.dtype = torch.float32) -> None:
        """Wrap a network of one of the supported families.

        :param weights: the dtype in which the weights are kept. The model computes in it.
        """
        if weights != torch.float32:
            network.model.to(weights)
        self.network, self._weights = network, weights
        self.objectives = network.objectives
        self.default_scales: dict[str, float] = dict(network.default_scales)
        self._digest = _digest(network, weights)

    @property
    def fingerprint(self) -> str:
        """Hash of the architecture, weights, tokenizer, preprocessing and objective options."""
        return f"hf-{self._digest}"

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network."""
        return self.network.dtype

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> TransformersGuidance:
        """Move the network to ``device`` and cast it to ``dtype`` (None: keep). Return this object.

        Weights kept in half precision stay so where float32 is asked for.
        """
        self.network.model.to(device=device, dtype=kept_dtype(self._weights, dtype))
        return self

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts.

        :raises UsageError: there are no prompts, or a prompt is empty or contains a special token.
        """
        prompts = tuple(prompts)
        if not prompts:
            raise UsageError("no prompts given")
        with torch.no_grad(), without_downcasts(self.dtype):
            encoded = self.network.encode(prompts)
        return TextBatch(prompts, encoded.tensors, encoded.notes)

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return ``{objective: (B,) loss}`` for the requested objectives, differentiable in ``images``.

        :param images: (B, 3, H, W) in [-1, 1], of any size. The model's image processor fits them to the model.
        :raises UsageError: the model does not have a requested objective.
        """
        check_request(self.network.source, self.objectives, images, text, objectives)
        if not objectives:
            return {}
        with without_downcasts(self.dtype):
            return self.network.losses(images, text.tensors, objectives)


class FeatureGuidance(TransformersGuidance):
    """A model with features of pictures alone, by which sets of pictures can be compared."""

    def image_features(self, images: Tensor) -> Tensor:
        """Return the normalised features (B, D) of images (B, 3, H, W) in [-1, 1]."""
        with without_downcasts(self.dtype):
            features: Tensor = self.network.image_features(images)  # type: ignore[attr-defined]
        return features


def as_guidance(network: Network, weights: torch.dtype = torch.float32) -> TransformersGuidance:
    """Return a network as a guidance model, with weights kept in a dtype."""
    kind = FeatureGuidance if hasattr(network, "image_features") else TransformersGuidance
    return kind(network, weights)


def _digest(network: Network, weights: torch.dtype) -> str:
    """Return the start of the SHA-256 of everything that changes a loss. It does not depend on where files are."""
    sha = hashlib.sha256()
    config = {k: v for k, v in network.model.config.to_dict().items() if k not in _INCIDENTAL}
    reading = network.tokenizer("A photo of 2 small, bright-green frogs (on a naïve mat)!")["input_ids"]
    template = getattr(network.processor, "chat_template", None)
    described = [
        type(network.model).__name__,
        config,
        network.images.identity,
        reading,
        sorted(network.tokenizer.get_vocab().items()),
        template,
        network.options.identity(),
        *([] if weights == torch.float32 else [str(weights)]),
    ]
    sha.update(json.dumps(described, default=str, sort_keys=True).encode())
    for name, tensor in sorted(network.model.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        values = tensor.detach().to("cpu").contiguous()
        sha.update(values.to(torch.float32).numpy().data.cast("B") if values.numel() else b"")
    return sha.hexdigest()[:24]


_INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Entries of a configuration that do not change the model."""
