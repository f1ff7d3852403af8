"""The interface of every family of models to :class:`.guidance.TransformersGuidance`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from guidelens.errors import UsageError
from torch import Tensor

from .images import ImageInputs
from .options import ObjectiveOptions


@dataclass(frozen=True)
class Encoded:
    """Prompts as a model reads them: tensors whose first dimension is the prompt, and notes for the user."""

    tensors: dict[str, Tensor]
    notes: tuple[tuple[str, ...], ...] = ()


class Network(ABC):
    """A model of transformers with its processor, and the losses that it can give."""

    objectives: frozenset[str]
    exact_constants = False
    """Whether the class reads scalars of the model, such as a temperature, which must not be rounded."""
    default_scales: Mapping[str, float]
    """Factors that bring the gradients of the objectives to one size. They are not tuned for any model."""

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap a model and its processor.

        :param source: the model, as error messages name it.
        :raises GuidelensError: the image processor does not keep gradients.
        """
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer: Any = processor.tokenizer
        self.options = options
        self.source = source
        self.images = ImageInputs(processor, source)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the model."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    def pixels(self, images: Tensor) -> dict[str, Tensor]:
        """Return the image tensors of images (B, 3, H, W) in [-1, 1], on the model's device."""
        shown = self.images(at_least_float32(images.to(self.device)))
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in shown.items()
        }

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Encode prompts. Called without gradients, once per run."""

    @abstractmethod
    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """Return the loss (B,) of each requested objective.

        :param images: (B, 3, H, W) in [-1, 1].
        :param text: tensors of the B prompts, from :meth:`encode`.
        """


def at_least_float32(values: Tensor) -> Tensor:
    """Return values as float32. float64 values stay float64."""
    return values if values.dtype == torch.float64 else values.float()


def check_words(tokenizer: Any, prompts: Sequence[str], limit: int) -> tuple[tuple[str, ...], ...]:
    """Return notes for each prompt about words that are cut off or not in the vocabulary.

    :raises UsageError: a prompt is empty or contains a special token, which the tokenizer would read as one.
    """
    found = []
    for prompt in prompts:
        for token in tokenizer.all_special_tokens:
            if len(token) > 1 and token in prompt:
                raise UsageError(f"the prompt {prompt!r} contains the special token {token}; remove it")
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UsageError(f"the prompt {prompt!r} is empty for the model; give at least one word")
        notes = []
        whole = len(tokenizer(prompt)["input_ids"])
        if whole > limit:
            notes.append(f"longer than {limit} tokens: its last {whole - limit} tokens are cut off")
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            words = [w for w in prompt.split() if _unknown(tokenizer, w)]
            notes.append(f"not in the text model's vocabulary: {', '.join(dict.fromkeys(words))}")
        found.append(tuple(notes))
    return tuple(found)


def _unknown(tokenizer: Any, word: str) -> bool:
    return tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]
