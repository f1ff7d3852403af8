"""Several guidance models as one. Objectives are named ``model/objective``, and one schedule weights all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .contracts import GuidanceModel, TextBatch
from .errors import UsageError
from .guarding import encode, own_losses_of
from .networks import place

SEPARATOR = "/"


class JointGuidance:
    """Guidance models side by side; see :class:`guidelens.contracts.GuidanceModel`.

    The objective ``itc`` of the model ``blip`` is named ``blip/itc``. All models receive the same pictures and prompts.
    A step evaluates only the models whose objectives are active in it. Modules are frozen and in eval mode.

    :param models: the models by name. The names become the prefixes of the objectives.
    :raises UsageError: if there are no models, a name contains a slash, or a model reads x_t.
    """

    def __init__(self, models: Mapping[str, GuidanceModel]) -> None:
        if not models:
            raise UsageError("joint guidance needs at least one guidance model")
        for name, model in models.items():
            if not name or SEPARATOR in name:
                raise UsageError(
                    f"a guidance model in joint guidance needs a name without {SEPARATOR!r}, got {name!r}"
                )
            if getattr(model, "reads", "x0") != "x0":
                raise UsageError(
                    f"the guidance model {name!r} reads noisy pictures (x_t); joint guidance takes models that read x0"
                )
            if isinstance(model, nn.Module):
                model.eval().requires_grad_(False)
        self.models = dict(models)

    @property
    def objectives(self) -> frozenset[str]:
        """All objectives, with the names of their models as prefixes."""
        return frozenset(
            _full(name, each) for name, model in self.models.items() for each in model.objectives
        )

    @property
    def fingerprint(self) -> str:
        """The fingerprints of the models, by name."""
        return " + ".join(f"{name}={model.fingerprint}" for name, model in self.models.items())

    @property
    def default_scales(self) -> dict[str, float]:
        """The default scales of the models. They do not make gradients of different models comparable."""
        return {
            _full(name, each): scale
            for name, model in self.models.items()
            for each, scale in getattr(model, "default_scales", {}).items()
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> JointGuidance:
        """Move every model."""
        return JointGuidance({name: place(model, device, dtype) for name, model in self.models.items()})

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts with every model. Notes begin with the model's name."""
        tensors: dict[str, Tensor] = {}
        notes: list[list[str]] = [[] for _ in prompts]
        for name, model in self.models.items():
            text = encode(model, prompts)
            tensors |= {_full(name, key): tensor for key, tensor in text.tensors.items()}
            for row, own in enumerate(text.notes):
                notes[row] += [f"{name}: {note}" for note in own]
        return TextBatch(tuple(prompts), tensors, tuple(map(tuple, notes)) if any(notes) else ())

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return the requested losses (B,), each from its model."""
        wanted: dict[str, list[str]] = {}
        for each in objectives:
            name, _, own = each.partition(SEPARATOR)
            wanted.setdefault(name, []).append(own)
        found: dict[str, Tensor] = {}
        for name, asked in wanted.items():
            losses = own_losses_of(
                self.models[name],
                images,
                self._text_of(name, text),
                asked,
                differentiable=images.requires_grad,
            )
            found |= {_full(name, each): loss for each, loss in losses.items()}
        return found

    def _text_of(self, name: str, text: TextBatch) -> TextBatch:
        prefix = name + SEPARATOR
        own: dict[str, Any] = {
            key.removeprefix(prefix): tensor for key, tensor in text.tensors.items() if key.startswith(prefix)
        }
        return TextBatch(text.prompts, own)


def _full(name: str, each: str) -> str:
    return f"{name}{SEPARATOR}{each}"
