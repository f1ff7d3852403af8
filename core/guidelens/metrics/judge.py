"""A guidance model as a judge: it scores finished pictures against their prompts by its objectives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Column, GuidanceModel, Prompt
from guidelens.errors import UsageError
from guidelens.guarding import encode, losses_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT = "@"
"""Separates objective and model in the name of a column: ``itm@MODEL``."""

PROBABILITY = "p-"
"""Prefix of the column's name if its value is exp(-loss)."""

_PICTURES_AT_ONCE = 32


class Judge:
    """A :class:`guidelens.contracts.Metric`: minus the loss of each objective, so that higher is better.

    A column has the name ``OBJECTIVE@MODEL``. With ``probability`` the value is exp(-loss) and the name
    ``p-OBJECTIVE@MODEL``. It is in [0, 1] if the loss is a negative logarithm of a probability. For BLIP's ITM, -log
    p(match), it is p(match). For CAP it is the geometric mean of the tokens' probabilities. Pictures are scored
    against the ``target`` of their prompt. A judge that is also the guide measures what guidance maximised: see
    :mod:`guidelens.metrics.matrix`.
    """

    def __init__(
        self,
        model: GuidanceModel,
        name: str,
        objectives: Collection[str] | None = None,
        *,
        probability: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Judge by ``objectives`` of ``model``, by default all.

        :param name: name of the model in the columns.
        :param device: device of the model; None: its attribute ``device``, else the CPU.
        :raises UsageError: the model lacks an objective, or reads noisy images.
        """
        if getattr(model, "reads", "x0") != "x0":
            raise UsageError(f"{name} reads noisy images; it cannot judge finished ones")
        known = sorted(model.objectives)
        unknown = [objective for objective in objectives or () if objective not in model.objectives]
        if unknown:
            raise UsageError(f"{name} has no objective {unknown[0]!r}; it has {', '.join(known)}")
        self.model, self.probability = model, probability
        self.device = device if device is not None else getattr(model, "device", None)
        self.objectives = tuple(dict.fromkeys(objectives)) if objectives else tuple(known)
        prefix = PROBABILITY if probability else ""
        meaning = "exp(-loss) by {} of {}" if probability else "minus the loss by {} of {}"
        self.columns = tuple(
            Column(
                f"{prefix}{objective}{AT}{name}",
                meaning.format(objective, name),
                "judgement",
                low=0.0 if probability else None,
            )
            for objective in self.objectives
        )

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        import torch

        from guidelens.networks import frozen

        targets = [prompt.target for prompt in prompts]
        distinct = list(dict.fromkeys(targets))
        device = self.device
        scores: list[dict[str, float]] = []
        with torch.no_grad(), frozen(self.model):
            text = encode(self.model, distinct)
            for start in range(0, len(images), _PICTURES_AT_ONCE):
                part = slice(start, start + _PICTURES_AT_ONCE)
                shown = images[part] if device is None else images[part].to(device)
                paired = text.select([distinct.index(target) for target in targets[part]])
                losses = losses_of(self.model, shown, paired, self.objectives, differentiable=False)
                values = [-losses[objective].cpu().double() for objective in self.objectives]
                values = [value.exp() for value in values] if self.probability else values
                rows = zip(*(value.tolist() for value in values), strict=True)
                names = [column.name for column in self.columns]
                scores += [dict(zip(names, row, strict=True)) for row in rows]
        return scores
