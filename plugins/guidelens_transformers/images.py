"""The image processors of transformers as differentiable preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from guidelens.device_copies import upload
from guidelens.errors import GuidelensError, UsageError
from torch import Tensor

DIFFERENTIABLE = "torchvision"
"""The backend whose image processors keep gradients."""

_WITHOUT_SPLITTING = ("do_image_splitting", "do_pan_and_scan", "crop_to_patches")
"""Settings that cut a picture into tiles. They are turned off: one picture is one set of tokens."""

_LANCZOS, _BICUBIC = 1, 3  # of PIL.Image.Resampling
"""Lanczos exists on CPUs only, in float32. It is replaced by bicubic on all devices, as transformers does on GPUs."""
_NESTED = ("Idefics", "SmolVLM")
"""Image processors that take a list of pictures for each text. Their models drop pictures of exact zeros as padding."""
_NOT_ZERO = 1e-6
"""The value that replaces zeros for such models, so that a gray picture is not taken for padding."""


class ImageInputs:
    """Maps images in [-1, 1] to the image tensors that a model takes.

    The processor of transformers resizes, crops, pads and cuts patches. Its normalisation by mean and standard
    deviation is applied here instead, before resizing. The two commute. The processor's own normalisation casts to
    float32, which would spoil checks in float64. Values are neither rounded nor clamped.
    """

    def __init__(self, processor: Any, source: str) -> None:
        """Wrap the image processor of a processor.

        :param source: the model, as error messages name it.
        :raises GuidelensError: the processor does not keep gradients.
        """
        self._unused: Sequence[str] = getattr(processor, "unused_input_names", ())
        processor = processor.image_processor
        backend = getattr(processor, "backend", "unknown")
        if backend != DIFFERENTIABLE:
            raise GuidelensError(
                f"{source}: {type(processor).__name__} computes outside torch (backend {backend!r}), so pictures would "
                f"get no gradient; install torchvision, and let preprocessor_config.json name a processor "
                f"without Pil in its name"
            )
        self.processor = processor
        self._nested = type(processor).__name__.startswith(_NESTED)
        self.settings: dict[str, Any] = {
            name: False for name in _WITHOUT_SPLITTING if hasattr(processor, name)
        }
        if getattr(processor, "resample", None) == _LANCZOS:
            self.settings["resample"] = _BICUBIC
        normalised = bool(getattr(processor, "do_normalize", True))
        self._mean = _per_channel(processor.image_mean if normalised else 0.0)
        self._std = _per_channel(processor.image_std if normalised else 1.0)
        scaled = bool(getattr(processor, "do_rescale", True))
        self._range = 255 * float(processor.rescale_factor) if scaled else 255.0

    def __call__(self, images: Tensor) -> dict[str, Any]:
        """Return the image tensors of images (B, 3, H, W) in [-1, 1], of any size.

        :raises UsageError: the images have another shape.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise UsageError(f"images must have the shape (B, 3, H, W), not {tuple(images.shape)}")
        mean, std = (upload(values, images.device, images.dtype) for values in (self._mean, self._std))
        shown = ((images + 1) / 2 * self._range - mean) / std
        found: Mapping[str, Any] = self.processor(
            images=self.listed(shown),
            do_rescale=False,
            do_normalize=False,
            do_convert_rgb=False,
            input_data_format="channels_first",
            return_tensors="pt",
            **self.settings,
        )
        kept = {name: value for name, value in found.items() if name not in self._unused}
        if self._nested:
            zero = (kept["pixel_values"].detach() == 0).to(kept["pixel_values"].dtype)
            kept["pixel_values"] = kept["pixel_values"] + _NOT_ZERO * zero
        return kept

    def listed(self, images: Tensor) -> list[Any]:
        """Return images as the processor takes a batch with one picture for each text."""
        return [[image] if self._nested else image for image in images.unbind(0)]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the tensors, for a fingerprint."""
        kept: dict[str, Any] = self.processor.to_dict()
        return {**kept, **self.settings}


def _per_channel(values: Any) -> Tensor:
    listed = list(values) if isinstance(values, list | tuple) else [values] * 3
    return torch.tensor(listed, dtype=torch.float64)[:, None, None]
