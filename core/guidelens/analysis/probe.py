"""Probe objectives without sampling: which caption of a picture they prefer, and where their gradients point.

For a picture x with a right caption r and a wrong caption w, and an objective k with loss L_k:

- m_k = L_k(x, w) - L_k(x, r) is the margin. The objective is right about the pair if m_k > 0.
- g_k = -dL_k(x, r)/dx is the direction towards the right caption, and h_k = -dL_k(x, w)/dx towards the wrong one.
- If cos(g_k, h_k) < 0, a small step towards the right caption moves away from the wrong one.
- If <g_k, g_k - h_k> > 0, that step raises the margin.
- cos(g_k, g_l) shows whether objectives k and l ask for the same change of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..contracts import GuidanceModel, Prompt
from ..device_copies import to_device
from ..errors import UsageError
from ..guarding import encode, losses_of
from ..joint_guidance import SEPARATOR
from ..networks import frozen
from ..stats import Estimate, estimate

Show = Callable[[int, int], None]
"""Receives the progress: the number of measured pairs, and of all pairs."""


@dataclass(frozen=True)
class PairMeasures:
    """The measures of the objectives for one picture and its two captions. Mappings are by objective.

    :param right: L_k(x, r).
    :param wrong: L_k(x, w).
    :param cosines: cos(g_k, h_k); 0 where a gradient is 0.
    :param gains: <g_k, g_k - h_k> / |g_k|^2, the increase of the margin per decrease of L_k(x, r) in a small step along
        g_k; 0 where a gradient is 0.
    :param agreement: cos(g_k, g_l) by ``k|l``.
    """

    right: dict[str, float]
    wrong: dict[str, float]
    cosines: dict[str, float]
    gains: dict[str, float]
    agreement: dict[str, float]

    def margin(self, objective: str) -> float:
        """m_k = L_k(x, w) - L_k(x, r)."""
        return self.wrong[objective] - self.right[objective]


@dataclass(frozen=True)
class Probe:
    """The measures of all pairs.

    :param pairs: prompts with a ``foil``.
    :param measures: the measures of each pair.
    """

    pairs: tuple[Prompt, ...]
    measures: tuple[PairMeasures, ...]
    objectives: tuple[str, ...]

    @property
    def categories(self) -> list[str]:
        """The categories of the pairs, in order of appearance."""
        return list(dict.fromkeys(pair.category for pair in self.pairs))

    @property
    def by_model(self) -> dict[str, dict[str, str]]:
        """Objective -> model -> the name of that objective here, for objectives ``MODEL/OBJECTIVE`` of several models.

        Of one model: objective -> "" -> objective.
        """
        found: dict[str, dict[str, str]] = {}
        for name in self.objectives:
            model, _, objective = name.rpartition(SEPARATOR)
            found.setdefault(objective, {})[model] = name
        return found

    @property
    def opposites(self) -> list[str]:
        """The pairs of objectives, ``k|l``."""
        return [f"{a}|{b}" for a, b in combinations(self.objectives, 2)]

    def accuracy(self, objective: str, category: str | None = None) -> Estimate:
        """The share of pairs with a positive margin; ties count half."""
        return self._estimate(lambda m: 0.5 + 0.5 * _sign(m.margin(objective)), category)

    def margin(self, objective: str, category: str | None = None) -> Estimate:
        """The mean margin, in units of the loss."""
        return self._estimate(lambda m: m.margin(objective), category)

    def cosine(self, objective: str, category: str | None = None) -> Estimate:
        """The mean of cos(g_k, h_k)."""
        return self._estimate(lambda m: m.cosines[objective], category)

    def moves_away(self, objective: str, category: str | None = None) -> Estimate:
        """The share of pairs for which a step towards the right caption moves away from the wrong one."""
        return self._estimate(lambda m: float(m.cosines[objective] < 0), category)

    def raises_margin(self, objective: str, category: str | None = None) -> Estimate:
        """The share of pairs for which a step towards the right caption raises the margin."""
        return self._estimate(lambda m: float(m.gains[objective] > 0), category)

    def agreement(self, both: str, category: str | None = None) -> Estimate:
        """The mean of cos(g_k, g_l); ``both`` is ``k|l``."""
        return self._estimate(lambda m: m.agreement[both], category)

    def conflicts(self, both: str, category: str | None = None) -> Estimate:
        """The share of pairs with a negative cos(g_k, g_l)."""
        return self._estimate(lambda m: float(m.agreement[both] < 0), category)

    def _estimate(self, value: Callable[[PairMeasures], float], category: str | None) -> Estimate:
        chosen = [
            (value(measures), pair.picture or pair.text)
            for pair, measures in zip(self.pairs, self.measures, strict=True)
            if category is None or pair.category == category
        ]
        return estimate([v for v, _ in chosen], [unit for _, unit in chosen], resamples=1999)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: a summary over all pairs and by category, and each pair."""
        return {
            "objectives": list(self.objectives),
            "summary": {name: self._summary(name) for name in ("", *self.categories)},
            "pairs": [
                {
                    "right": pair.text,
                    "wrong": pair.foil,
                    "category": pair.category,
                    "picture": pair.picture,
                    "losses_right": m.right,
                    "losses_wrong": m.wrong,
                    "margins": {name: m.margin(name) for name in self.objectives},
                    "cosines": m.cosines,
                    "gains": m.gains,
                    "agreement": m.agreement,
                }
                for pair, m in zip(self.pairs, self.measures, strict=True)
            ],
        }

    def _summary(self, category: str) -> dict[str, Any]:
        chosen = category or None
        ways = (self.accuracy, self.margin, self.cosine, self.moves_away, self.raises_margin)
        both = (self.agreement, self.conflicts)
        return {
            **{way.__name__: {o: _values(way(o, chosen)) for o in self.objectives} for way in ways},
            **{way.__name__: {o: _values(way(o, chosen)) for o in self.opposites} for way in both},
        }


def probe(
    model: GuidanceModel,
    pairs: Sequence[Prompt],
    picture_of: Callable[[Prompt], Tensor],
    *,
    device: torch.device | None = None,
    batch_size: int = 16,
    show: Show | None = None,
) -> Probe:
    """Measure every objective of ``model`` on pictures with a right and a wrong caption.

    Probe several models together as a :class:`guidelens.JointGuidance`. The agreement is then also that of their
    gradients with each other.

    :param pairs: prompts with a ``foil``.
    :param picture_of: returns the picture of a pair, (3, H, W) in [-1, 1]. It is called once per pair.
    :param device: the device of the model; None: the CPU.
    :param batch_size: the number of pictures measured at once. A batch contains consecutive pictures of one size.
    :raises UsageError: if there are no pairs, a pair has no foil, or the model reads noisy images.
    :raises ComponentError: if the model failed.
    """
    if not pairs:
        raise UsageError("nothing to probe: give at least one pair")
    missing = next((pair for pair in pairs if pair.foil is None), None)
    if missing is not None:
        raise UsageError(f"{missing.text!r} has no wrong caption (foil): probe needs pairs of captions")
    if getattr(model, "reads", "x0") != "x0":
        raise UsageError("the guidance model reads noisy images; it cannot be probed on finished pictures")
    objectives = tuple(sorted(model.objectives, key=lambda name: name.rpartition(SEPARATOR)[::-1]))
    measures: list[PairMeasures] = []
    with frozen(model):
        for batch in _batches(pairs, picture_of, batch_size):
            images = torch.stack([image for _, image in batch])
            if device is not None:
                images = to_device(images, device)
            measures += _measured(model, [pair for pair, _ in batch], images, objectives)
            if show is not None:
                show(len(measures), len(pairs))
    return Probe(tuple(pairs), tuple(measures), objectives)


def _batches(pairs: Sequence[Prompt], picture_of: Callable[[Prompt], Tensor], size: int) -> Any:
    batch: list[tuple[Prompt, Tensor]] = []
    for pair in pairs:
        image = picture_of(pair)
        if batch and (len(batch) == size or batch[-1][1].shape != image.shape):
            yield batch
            batch = []
        batch.append((pair, image))
    yield batch


def _measured(
    model: GuidanceModel, pairs: Sequence[Prompt], images: Tensor, objectives: Sequence[str]
) -> list[PairMeasures]:
    right, towards_right = _gradients(model, [pair.text for pair in pairs], images, objectives)
    wrong, towards_wrong = _gradients(model, [str(pair.foil) for pair in pairs], images, objectives)
    cosines = {k: _cosine(towards_right[k], towards_wrong[k]) for k in objectives}
    gains = {k: _gain(towards_right[k], towards_wrong[k]) for k in objectives}
    agreement = {
        f"{a}|{b}": _cosine(towards_right[a], towards_right[b]) for a, b in combinations(objectives, 2)
    }
    tables = (right, wrong, cosines, gains, agreement)
    return [
        PairMeasures(*({name: float(column[i]) for name, column in table.items()} for table in tables))
        for i in range(len(pairs))
    ]


def _gradients(
    model: GuidanceModel, captions: Sequence[str], images: Tensor, objectives: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return L_k (B,) and -dL_k/dx (B, D) in float64, by objective."""
    with torch.no_grad():
        text = encode(model, captions)
    shown = images.detach().requires_grad_()
    losses = losses_of(model, shown, text, objectives)
    gradients = {}
    for place, (name, loss) in enumerate(losses.items()):
        (gradient,) = torch.autograd.grad(loss.sum(), shown, retain_graph=place + 1 < len(losses))
        gradients[name] = -gradient.flatten(1).double().cpu()
    return {name: loss.detach().double().cpu() for name, loss in losses.items()}, gradients


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return cos(a, b) of each row, and 0 where a or b is 0."""
    length = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(length > 0, (a * b).sum(dim=1) / length.clamp(min=1e-300), 0.0)


def _gain(right: Tensor, wrong: Tensor) -> Tensor:
    """Return <g, g - h> / |g|^2 of each row, and 0 where g is 0."""
    square = (right * right).sum(dim=1)
    return torch.where(square > 0, 1 - (right * wrong).sum(dim=1) / square.clamp(min=1e-300), 0.0)


def _sign(value: float) -> float:
    return float(value > 0) - float(value < 0)


def _values(found: Estimate) -> dict[str, float | int | None]:
    low, high = (found.low, found.high) if found.has_interval else (None, None)
    return {"mean": found.mean, "low": low, "high": high, "pairs": found.n}
