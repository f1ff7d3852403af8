"""Conformance checks for generators: the noise process, the network's output, and its prediction."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from guidelens.contracts import Generator, Prediction
from guidelens.diffusion.process import split_output
from guidelens.guarding import conditions_of, decode, is_latent, predict
from guidelens.networks import resolve_device

from .checklist import CheckList, Failed, NotChecked, Numbers, at_most
from .denoising import check_denoising
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
    rounding,
)
from .report import ConformanceReport

BATCH = 3


@dataclass(frozen=True)
class _Subject:
    """A generator, and optional clean pictures (B, C, H, W) of its domain."""

    generator: Generator
    device: torch.device
    images: Tensor | None
    fingerprint: Any

    @property
    def table(self) -> Tensor:
        return self.generator.alphas_cumprod

    def noisy(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """x_t of a batch with its timesteps: one near each end, one in the middle."""
        total = len(self.table)
        random = torch.Generator().manual_seed(0)
        x_t = torch.randn(BATCH, *self.generator.image_shape, generator=random, dtype=torch.float64)
        timesteps = torch.tensor([0, total // 2, total - 1])
        return x_t.to(dtype).to(self.device), timesteps.to(self.device)

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return predict(self.generator, x_t, timesteps, differentiable=False)  # a separate check covers this

    @contextmanager
    def double(self) -> Iterator[_Subject]:
        """The same in float64.

        :raises NotChecked: if the network cannot be moved there.
        """
        with in_float64(self.generator, self.device) as generator:
            yield replace(self, generator=generator)


CHECKS: CheckList[_Subject] = CheckList()


@CHECKS.add("attributes")
def _attributes(subject: _Subject) -> Numbers:
    """image_shape is (C, H, W), prediction is epsilon, x0 or v, learned_variance is true or false."""
    shape: Any = subject.generator.image_shape
    if not isinstance(shape, tuple) or len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
        raise Failed(f"image_shape is {shape!r}; it must be a tuple of three ints above 0: C, H, W")
    if subject.generator.prediction not in get_args(Prediction):
        choices = ", ".join(get_args(Prediction))
        raise Failed(f"prediction is {subject.generator.prediction!r}; choose {choices}")
    if not isinstance(subject.generator.learned_variance, bool):
        raise Failed(f"learned_variance is {subject.generator.learned_variance!r}; it must be a bool")
    return dict(zip(("channels", "height", "width"), shape, strict=True))


@CHECKS.add("alphas-cumprod")
def _alphas_cumprod(subject: _Subject) -> Numbers:
    """(T,) float64 between 0 and 1, strictly decreasing: timestep 0 is the cleanest."""
    table: Any = subject.table
    if not isinstance(table, Tensor) or table.ndim != 1 or len(table) == 0:
        shape = tuple(table.shape) if isinstance(table, Tensor) else type(table).__name__
        raise Failed(f"alphas_cumprod is {shape}; it must be a tensor of shape (T,)")
    if table.dtype != torch.float64:
        raise Failed(f"alphas_cumprod is {table.dtype}; near 0 and 1 the digits of float64 are needed")
    outside = ~((table > 0) & (table < 1))
    if bool(outside.any()):
        at = int(outside.nonzero()[0])
        raise Failed(f"alphas_cumprod[{at}] is {table[at].item():.6g}, which is not between 0 and 1")
    rising = (table.diff() >= 0).nonzero()
    if len(rising):
        at = int(rising[0])
        raise Failed(
            f"it must strictly decrease: [{at}] is {table[at]:.6g}, [{at + 1}] is {table[at + 1]:.6g}"
        )
    return {"T": len(table), "first": table[0].item(), "last": table[-1].item()}


@CHECKS.add("output", needs=["attributes", "alphas-cumprod"])
def _output(subject: _Subject) -> Numbers:
    """(B, C, H, W), or (B, 2C, H, W) where the variance is learned; finite at both ends of the process."""
    x_t, timesteps = subject.noisy()
    output = subject(x_t, timesteps)
    channels, *size = subject.generator.image_shape
    wanted = (BATCH, channels * (2 if subject.generator.learned_variance else 1), *size)
    if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        variance = "learned_variance" if subject.generator.learned_variance else "no learned_variance"
        raise Failed(f"the output is {shape}; with {variance} it must be {wanted}")
    check_finite("the output", output)
    return {"largest": output.abs().max().item()}


@CHECKS.add("differentiable", needs=["output"])
def _differentiable(subject: _Subject) -> Numbers:
    """The prediction has a finite gradient in x_t that is not 0 everywhere."""
    x_t, timesteps = subject.noisy()
    x_t.requires_grad_()
    output = subject(x_t, timesteps)
    if not output.requires_grad:
        raise Failed("the output has no graph: it is not differentiable in x_t")
    prediction, _ = split_output(output, x_t, subject.generator.learned_variance)
    (gradient,) = torch.autograd.grad(prediction.sum(), x_t, allow_unused=True, materialize_grads=True)
    check_finite("the gradient", gradient)
    norm = gradient.norm().item()
    if norm == 0:
        raise Failed("the gradient is 0 everywhere, so guidance through the network is impossible")
    return {"norm": norm}


@CHECKS.add("determinism", needs=["output"])
def _determinism(subject: _Subject) -> Numbers:
    """The same input gives the same output: again, after other random numbers, in training mode."""
    x_t, timesteps = subject.noisy()
    first = subject(x_t, timesteps)
    numbers = {"again": largest_difference(first, subject(x_t, timesteps))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        numbers["reseeded"] = largest_difference(first, subject(x_t, timesteps))
    if isinstance(subject.generator, nn.Module):
        subject.generator.train()
        with borrowed(subject.generator, subject.device) as generator:
            numbers["training mode"] = largest_difference(
                first, replace(subject, generator=generator)(x_t, timesteps)
            )
        subject.generator.eval()
    for name, difference in numbers.items():
        at_most(f"{name}: the relative difference", difference, rounding(subject.device), **numbers)
    return numbers


@CHECKS.add("batch-independence", needs=["determinism"])
def _batch_independence(subject: _Subject) -> Numbers:
    """A sample's output depends neither on its neighbours in the batch nor on its place in it."""
    _check_conditions(subject)
    x_t, timesteps = subject.noisy()
    together = subject(x_t, timesteps)
    rows = range(BATCH)
    alone = [subject(x_t[[row]], timesteps[[row]]) for row in rows]
    order = [*reversed(rows)]
    numbers = check_rows(together, alone, subject(x_t[order], timesteps[order]), order)
    leaf = x_t.clone().requires_grad_()
    output = subject(leaf, timesteps)
    if output.requires_grad:
        numbers = {**numbers, "in a neighbour's gradient": check_cross_gradient(output, leaf)}
    return numbers


def _check_conditions(subject: _Subject) -> None:
    """:raises Failed: where what a sample is conditioned on depends on more than its own seed."""
    seeds = [5, 3, 8]
    drawn = conditions_of(subject.generator, seeds)
    if drawn is None:
        return
    alone = [conditions_of(subject.generator, [seed]) for seed in seeds]
    if not all(one is not None and torch.equal(one[0], row) for one, row in zip(alone, drawn, strict=True)):
        raise Failed(
            "conditions() of a seed differ alone and among others: they must follow from the seed alone"
        )


@CHECKS.add("gradient", needs=["differentiable", "batch-independence"])
def _gradient(subject: _Subject) -> Numbers:
    """In float64 the gradient of a random projection agrees with central differences."""
    with subject.double() as double:
        x_t, timesteps = double.noisy(torch.float64)
        random = torch.Generator().manual_seed(1)
        projection = torch.randn(x_t.shape, generator=random, dtype=torch.float64).to(x_t)

        def projected(point: Tensor) -> Tensor:
            output = double(point, timesteps)
            prediction, _ = split_output(output, point, subject.generator.learned_variance)
            return (prediction * projection).flatten(1).sum(dim=1)

        return {"relative error": check_directional(projected, x_t, what="the output")}


@CHECKS.add("decode", needs=["determinism"])
def _decode(subject: _Subject) -> Numbers:
    """Where it has ``decode``: finite pictures (B, 3, h, w) of picture_shape, each from its own latent alone."""
    if not is_latent(subject.generator):
        raise NotChecked("it diffuses pictures: it has no decode")
    shape: Any = getattr(subject.generator, "picture_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[0] != 3:
        raise Failed(f"picture_shape is {shape!r}; it must be a tuple of three ints: 3, h, w")
    latents, _ = subject.noisy()
    together = decode(subject.generator, latents)
    check_finite("the picture", together)
    rows, order = range(BATCH), [*reversed(range(BATCH))]
    alone = [decode(subject.generator, latents[[row]]) for row in rows]
    numbers = dict(check_rows(together, alone, decode(subject.generator, latents[order]), order))
    leaf = latents.clone().requires_grad_()
    numbers["in a neighbour's gradient"] = check_cross_gradient(decode(subject.generator, leaf), leaf)
    numbers["relative error of the gradient"] = _decoder_gradient(subject)
    return {**numbers, "largest": together.abs().max().item()}


def _decoder_gradient(subject: _Subject) -> float:
    """Compare the decoder's gradient with central differences in float64, along a random projection of the picture."""
    with subject.double() as double:
        latents, _ = double.noisy(torch.float64)
        random = torch.Generator().manual_seed(1)
        pictures = (BATCH, *subject.generator.picture_shape)  # type: ignore[attr-defined]  # it is a generator of latents
        projection = torch.randn(pictures, generator=random, dtype=torch.float64).to(latents)
        return check_directional(
            lambda point: (decode(double.generator, point) * projection).flatten(1).sum(dim=1),
            latents,
            what="the picture",
        )


@CHECKS.add("parameters", needs=["output"])
def _parameters(subject: _Subject) -> Numbers:
    """No parameter collects gradients; modules inside a component that is none are frozen, in eval mode."""
    x_t, timesteps = subject.noisy()

    def use() -> None:
        leaf = x_t.clone().requires_grad_()
        output = subject(leaf, timesteps)
        if output.requires_grad:
            torch.autograd.grad(output.sum(), leaf, allow_unused=True)

    return check_parameters(subject.generator, use)


@CHECKS.add("checkpointing", needs=["differentiable", "determinism"])
def _checkpointing(subject: _Subject) -> Numbers:
    """Where it offers ``checkpointing``: output, pictures of latents, and their gradients are the same with it."""
    switch = getattr(subject.generator, "checkpointing", None)
    if not callable(switch):
        raise NotChecked("it offers none")
    x_t, timesteps = subject.noisy()
    results = []
    for enabled in (False, True):
        switch(enabled)
        leaf = x_t.clone().requires_grad_()
        output = subject(leaf, timesteps)
        results.append([output, *torch.autograd.grad(output.square().sum(), leaf)])
        if is_latent(subject.generator):
            picture = decode(subject.generator, leaf)
            results[-1] += [picture, *torch.autograd.grad(picture.square().sum(), leaf)]
    switch(False)
    kinds = ("output", "gradient", "picture", "gradient of the picture")
    numbers = {
        kind: largest_difference(without, recomputed)
        for kind, without, recomputed in zip(kinds, *results, strict=False)
    }
    for name, difference in numbers.items():
        at_most(
            f"{name} with and without: the relative difference",
            difference,
            rounding(subject.device),
            **numbers,
        )
    return numbers


@CHECKS.add("denoises", needs=["determinism"])
def _denoises(subject: _Subject) -> Numbers:
    """Taken for what ``prediction`` says the output denoises, at every level of noise."""
    return check_denoising(subject.generator, subject.images, subject.device)


@CHECKS.add("bf16", needs=["differentiable"])
def _bf16(subject: _Subject) -> Numbers:
    """Under bfloat16 autocast output and gradient are finite."""
    x_t, timesteps = subject.noisy()
    leaf = x_t.clone().requires_grad_()
    with torch.autocast(subject.device.type, dtype=torch.bfloat16):
        output = subject(leaf, timesteps)
    check_finite("the output", output)
    (gradient,) = torch.autograd.grad(output.float().sum(), leaf)
    check_finite("the gradient", gradient)
    return {"relative difference": largest_difference(output, subject(x_t, timesteps))}


@CHECKS.add("fingerprint", needs=["output"])
def _fingerprint(subject: _Subject) -> Numbers:
    """A text that is not empty and stays the same while the generator is used."""
    return check_fingerprint(subject.generator, subject.fingerprint, lambda: subject(*subject.noisy()))


def examine_generator(
    generator: Generator,
    *,
    images: Tensor | None = None,
    device: str = "cpu",
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a generator; see :func:`guidelens.testing.check_generator`."""
    place = resolve_device(device)
    fingerprint = getattr(generator, "fingerprint", None)
    with borrowed(generator, place) as placed:
        subject = _Subject(placed, place, images, fingerprint)
        return ConformanceReport("generator", type(generator).__name__, CHECKS.run(subject, skip))
