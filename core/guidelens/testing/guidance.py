"""Conformance checks for guidance models: independent losses per sample, with correct gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, get_args

import torch
from torch import Tensor, nn

from guidelens.contracts import GuidanceModel, Reads, TextBatch
from guidelens.errors import UsageError
from guidelens.guarding import encode, own_losses_of
from guidelens.networks import resolve_device

from .checklist import CheckList, Failed, NotChecked, Numbers, at_most, is_number
from .networks import (
    borrowed,
    check_cross_gradient,
    check_directional,
    check_fingerprint,
    check_finite,
    check_parameters,
    check_rows,
    in_float64,
    largest_difference,
    pictures,
    rounding,
)
from .report import ConformanceReport

PROMPTS = ("a red circle", "a dog on a sofa", "two small green triangles above a large blue square")
"""Default prompts, of different lengths."""
IMAGE_SHAPE = (3, 32, 32)

_TIMESTEP = 10  # size of x_t, for models that read it
_BEYOND = (1.5, 20.0)
_ALL_SUBSETS = 4  # with more objectives: each alone, each pair, and all


@dataclass(frozen=True)
class _Subject:
    """A guidance model, three prompts and as many pictures."""

    model: GuidanceModel
    prompts: tuple[str, ...]
    images: Tensor
    device: torch.device
    fingerprint: Any

    @cached_property
    def text(self) -> TextBatch:
        return self.encode(self.prompts)

    @property
    def reads_x_t(self) -> bool:
        return bool(getattr(self.model, "reads", "x0") == "x_t")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.model.objectives))

    def losses(
        self,
        images: Tensor | None = None,
        text: TextBatch | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        shown = self.images if images is None else images
        told: dict[str, Any] = {}
        if self.reads_x_t:
            told["timesteps"] = torch.full((len(shown),), _TIMESTEP, device=self.device)
        return own_losses_of(
            self.model,
            shown,
            text or self.text,
            self.names if names is None else names,
            differentiable=False,  # a separate check covers this
            **told,
        )

    def encode(self, prompts: Sequence[str]) -> TextBatch:
        return encode(self.model, prompts)

    def stacked(self, images: Tensor | None = None, text: TextBatch | None = None) -> Tensor:
        """Return all losses (B, K), in the order of ``names``."""
        losses = self.losses(images, text)
        return torch.stack([losses[name] for name in self.names], dim=1)

    @contextmanager
    def double(self) -> Iterator[_Subject]:
        """The same in float64.

        :raises NotChecked: if the model cannot be moved there.
        """
        with in_float64(self.model, self.device) as model:
            yield replace(self, model=model, images=self.images.double())


CHECKS: CheckList[_Subject] = CheckList()


@CHECKS.add("objectives")
def _objectives(subject: _Subject) -> Numbers:
    """A frozenset of at least one name."""
    objectives: Any = subject.model.objectives
    if not isinstance(objectives, frozenset):
        raise Failed(f"objectives must be a frozenset, got {type(objectives).__name__}")
    if not objectives:
        raise Failed("objectives is empty")
    odd = [name for name in objectives if not isinstance(name, str) or not name.strip()]
    if odd:
        raise Failed(f"the name of an objective must be a text, got {odd[0]!r}")
    return {"objectives": len(objectives)}


@CHECKS.add("reads")
def _reads(subject: _Subject) -> Numbers:
    """Where there is a ``reads``: x0 or x_t."""
    reads = getattr(subject.model, "reads", "x0")
    if reads not in get_args(Reads):
        raise Failed(f"reads is {reads!r}; choose {' or '.join(get_args(Reads))}")
    return {}


@CHECKS.add("text")
def _text(subject: _Subject) -> Numbers:
    """encode_text returns a TextBatch: these prompts in this order, a row of every tensor for each."""
    text = subject.text
    if text.notes and len(text.notes) != len(subject.prompts):
        raise Failed(f"notes has {len(text.notes)} entries for {len(subject.prompts)} prompts")
    return {"tensors": len(text.tensors)}


@CHECKS.add("losses", needs=["objectives", "text"])
def _losses(subject: _Subject) -> Numbers:
    """A finite loss (B,) of floats for every objective, and nothing else."""
    losses = subject.losses()
    for name, loss in losses.items():
        check_finite(f"{name!r} of pictures in [-1, 1]", loss)
    return {f"mean {name}": losses[name].mean().item() for name in subject.names}


@CHECKS.add("differentiable", needs=["losses"])
def _differentiable(subject: _Subject) -> Numbers:
    """Every loss has a finite gradient in the images that is not 0 everywhere."""
    images = subject.images.clone().requires_grad_()
    losses = subject.losses(images)
    norms = {}
    for name in subject.names:
        if not losses[name].requires_grad:
            raise Failed(f"{name!r} is not differentiable in the images: its result has no graph")
        (gradient,) = torch.autograd.grad(
            losses[name].sum(), images, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        check_finite(f"the gradient of {name!r}", gradient)
        norms[f"norm {name}"] = norm = gradient.flatten(1).norm(dim=1).max().item()
        if norm == 0:
            raise Failed(f"the gradient of {name!r} is 0 everywhere: nothing to guide with")
    return norms


@CHECKS.add("determinism", needs=["losses"])
def _determinism(subject: _Subject) -> Numbers:
    """The same input gives the same losses: again, after other random numbers, in training mode, of new text."""
    first = subject.stacked()
    again = subject.stacked()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        reseeded = subject.stacked(text=subject.encode(subject.prompts))
    numbers = {"again": largest_difference(first, again), "reseeded": largest_difference(first, reseeded)}
    if isinstance(subject.model, nn.Module):
        subject.model.train()
        with borrowed(subject.model, subject.device) as model:
            trained = replace(subject, model=model).stacked()
        subject.model.eval()
        numbers["training mode"] = largest_difference(first, trained)
    for name, difference in numbers.items():
        at_most(f"{name}: the relative difference", difference, rounding(subject.device), **numbers)
    return numbers


@CHECKS.add("subsets", needs=["determinism"])
def _subsets(subject: _Subject) -> Numbers:
    """Asked for some of its objectives it returns exactly these, with the same values as among all."""
    whole = subject.losses()
    sizes = range(1, len(subject.names) + 1)
    if len(subject.names) > _ALL_SUBSETS:
        sizes = range(1, 3)
    worst, tried, limit = 0.0, 0, rounding(subject.device)
    for size in sizes:
        for names in combinations(subject.names, size):
            losses = subject.losses(names=names)
            tried += 1
            for name in names:
                worst = max(worst, largest_difference(losses[name], whole[name]))
                at_most(f"{name!r} asked for in {list(names)} and among all: the difference", worst, limit)
    return {"subsets": tried, "relative difference": worst}


@CHECKS.add("batch-independence", needs=["determinism"])
def _batch_independence(subject: _Subject) -> Numbers:
    """A sample's losses depend neither on its neighbours in the batch nor on its place in it."""
    together = subject.stacked()
    rows = range(len(subject.images))
    alone = [subject.stacked(subject.images[[row]], subject.text.select([row])) for row in rows]
    order = [*reversed(rows)]
    shuffled = subject.stacked(subject.images[order], subject.text.select(order))
    numbers = check_rows(together, alone, shuffled, order)
    images = subject.images.clone().requires_grad_()
    values = subject.stacked(images)
    if values.requires_grad:
        numbers = {**numbers, "in a neighbour's gradient": check_cross_gradient(values, images)}
    return numbers


@CHECKS.add("gradient", needs=["differentiable", "subsets", "batch-independence"])
def _gradient(subject: _Subject) -> Numbers:
    """In float64 gradients agree with central differences, along themselves and random directions."""
    numbers = {}
    with subject.double() as double:
        for name in subject.names:
            found = check_directional(
                lambda images, name=name: double.losses(images, names=[name])[name],  # type: ignore[misc]
                double.images,
                what=repr(name),
            )
            numbers[name] = found
    return numbers


@CHECKS.add("text-alone", needs=["batch-independence"])
def _text_alone(subject: _Subject) -> Numbers:
    """A prompt encoded alone gives the losses that it gives when encoded among others."""
    together = subject.stacked()
    alone = [
        subject.stacked(subject.images[[row]], subject.encode([prompt]))
        for row, prompt in enumerate(subject.prompts)
    ]
    difference = largest_difference(together, torch.cat(alone))
    return {"relative difference": at_most("the relative difference", difference, rounding(subject.device))}


@CHECKS.add("text-select", needs=["text-alone"])
def _text_select(subject: _Subject) -> Numbers:
    """text.select picks prompts, in any order and repeatedly, and losses follow."""
    picked = [2, 0, 2, 1]
    text = subject.text.select(picked)
    if text.prompts != tuple(subject.prompts[k] for k in picked):
        raise Failed(f"select({picked}) returned the prompts {text.prompts}")
    fresh = subject.encode([subject.prompts[k] for k in picked])
    images = pictures(len(picked), subject.images.shape[1:], seed=2).to(subject.device)
    difference = largest_difference(subject.stacked(images, text), subject.stacked(images, fresh))
    return {
        "relative difference": at_most(
            "selected or encoded in that order: the relative difference", difference, rounding(subject.device)
        )
    }


@CHECKS.add("text-graph", needs=["text"])
def _text_graph(subject: _Subject) -> Numbers:
    """encode_text builds no graph: no tensor of the text requires a gradient."""
    with torch.enable_grad():
        text = subject.encode(subject.prompts)
    attached = sorted(name for name, tensor in text.tensors.items() if tensor.requires_grad)
    if attached:
        raise Failed(f"{', '.join(attached)} require gradients; encode under torch.no_grad()")
    return {"tensors": len(text.tensors)}


@CHECKS.add("parameters", needs=["losses"])
def _parameters(subject: _Subject) -> Numbers:
    """No parameter collects gradients; modules inside a component that is none are frozen, in eval mode."""

    def use() -> None:
        images = subject.images.clone().requires_grad_()
        values = subject.stacked(images)
        if values.requires_grad:
            torch.autograd.grad(values.sum(), images, allow_unused=True)

    return check_parameters(subject.model, use)


@CHECKS.add("any-size", needs=["losses"])
def _any_size(subject: _Subject) -> Numbers:
    """Images of any height and width are taken."""
    if subject.reads_x_t:
        raise NotChecked("it reads x_t, and so only pictures of its generator's size")
    channels, height, width = subject.images.shape[1:]
    sizes = ((height * 3 // 4, width), (height + 8, width * 2))
    for size in sizes:
        images = pictures(len(subject.images), (channels, *size), seed=5).to(subject.device)
        losses = subject.stacked(images)
        if tuple(losses.shape) != (len(images), len(subject.names)):
            raise Failed(f"for images of {size[0]}x{size[1]} losses have the shape {tuple(losses.shape[:1])}")
        check_finite(f"losses of images of {size[0]}x{size[1]}", losses)
    return {"sizes": len(sizes)}


@CHECKS.add("out-of-range", needs=["differentiable"])
def _out_of_range(subject: _Subject) -> Numbers:
    """Pixels beyond [-1, 1] give finite losses and gradients: predicted x0 is not clamped."""
    for factor in _BEYOND:
        images = (subject.images * factor).requires_grad_()
        values = subject.stacked(images)
        check_finite(f"losses of pixels up to {factor:g}", values)
        (gradient,) = torch.autograd.grad(values.sum(), images)
        check_finite(f"gradients at pixels up to {factor:g}", gradient)
    return {"up to": max(_BEYOND)}


@CHECKS.add("bf16", needs=["differentiable"])
def _bf16(subject: _Subject) -> Numbers:
    """Under bfloat16 autocast losses and gradients are finite."""
    images = subject.images.clone().requires_grad_()
    with torch.autocast(subject.device.type, dtype=torch.bfloat16):
        text = subject.encode(subject.prompts)
        values = subject.stacked(images, text)
    check_finite("losses", values)
    (gradient,) = torch.autograd.grad(values.float().sum(), images)
    check_finite("gradients", gradient)
    return {"relative difference": largest_difference(values, subject.stacked())}


@CHECKS.add("fingerprint", needs=["losses"])
def _fingerprint(subject: _Subject) -> Numbers:
    """A text that is not empty and stays the same while the model is used."""
    return check_fingerprint(subject.model, subject.fingerprint, subject.stacked)


@CHECKS.add("default-scales", needs=["objectives"])
def _default_scales(subject: _Subject) -> Numbers:
    """Where there are any: a mapping of its own objectives to finite numbers above 0."""
    scales: Any = getattr(subject.model, "default_scales", {})
    if not isinstance(scales, Mapping):
        raise Failed(f"default_scales must be a mapping, got {type(scales).__name__}")
    for name, scale in scales.items():
        if name not in subject.model.objectives:
            raise Failed(f"default_scales names {name!r}; the objectives are {', '.join(subject.names)}")
        if not is_number(scale) or scale <= 0:
            raise Failed(f"default_scales[{name!r}] must be a finite number above 0, got {scale!r}")
    return {name: float(scale) for name, scale in scales.items()}


def examine_guidance_model(
    model: GuidanceModel,
    *,
    prompts: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    device: str = "cpu",
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a guidance model; see :func:`guidelens.testing.check_guidance_model`."""
    place = resolve_device(device)
    texts = tuple(PROMPTS if prompts is None else prompts)
    if len(set(texts)) < len(PROMPTS):
        raise UsageError(f"give at least {len(PROMPTS)} different prompts, not {len(set(texts))}")
    images = pictures(len(texts), image_shape).to(place)
    fingerprint = getattr(model, "fingerprint", None)
    with borrowed(model, place) as placed:
        subject = _Subject(placed, texts, images, place, fingerprint)
        return ConformanceReport("guidance", type(model).__name__, CHECKS.run(subject, skip))
