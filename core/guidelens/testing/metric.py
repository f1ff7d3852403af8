"""Conformance checks for metrics: finite scores by column, and low scores instead of missing ones for bad
pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from guidelens.contracts import ROLES, Column, Metric, Prompt
from guidelens.guarding import call, scores_of
from guidelens.plugins.spelling import suggestion

from .checklist import CheckList, Failed, NotChecked, Numbers, is_number
from .networks import pictures
from .report import ConformanceReport

PROMPTS = (
    Prompt("a red circle", "single"),
    Prompt("two small green triangles", "counting"),
    Prompt("a rde circle above a blue square", "positional", "a red circle above a blue square"),
)
"""Default prompts."""
IMAGE_SHAPE = (3, 32, 32)

Example = tuple[Tensor, Prompt]
"""A picture (C, H, W) and a prompt that it shows well."""

_ROUNDING = 1e-4


@dataclass(frozen=True)
class _Subject:
    metric: Metric
    prompts: tuple[Prompt, ...]
    bad: dict[str, Tensor]
    """Pictures (C, H, W) that show nothing, by description."""
    examples: tuple[Example, ...]

    @cached_property
    def pairs(self) -> list[Example]:
        """The examples, and every bad picture with every prompt."""
        prompts = dict.fromkeys([*(prompt for _, prompt in self.examples), *self.prompts])
        return [*self.examples, *((image, prompt) for image in self.bad.values() for prompt in prompts)]

    @property
    def images(self) -> Tensor:
        """The pictures of all pairs, (B, C, H, W)."""
        return torch.stack([image for image, _ in self.pairs])

    def score(self, pairs: Sequence[Example]) -> list[dict[str, float]]:
        images = torch.stack([image for image, _ in pairs])
        return scores_of(self.metric, images, [prompt for _, prompt in pairs])

    def score_raw(self, images: Tensor) -> Any:
        """Return the metric's unchecked result for all pairs."""
        return call(self.metric, "metric", "score", images, [prompt for _, prompt in self.pairs])


CHECKS: CheckList[_Subject] = CheckList()


@CHECKS.add("columns")
def _columns(subject: _Subject) -> Numbers:
    """A tuple of at least one guidelens.Column, each with a name of its own, a meaning and a possible range."""
    columns: Any = subject.metric.columns
    if not isinstance(columns, tuple):
        raise Failed(f"columns must be a tuple, got {type(columns).__name__}")
    if not columns:
        raise Failed("columns is empty")
    for column in columns:
        _check_column(column)
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise Failed(f"columns names one twice: {', '.join(names)}")
    return {"columns": len(columns), "with a role": sum(bool(column.role) for column in columns)}


def _check_column(column: Any) -> None:
    if not isinstance(column, Column):
        raise Failed(
            f"columns contains {column!r}, a {type(column).__name__}; write guidelens.Column(name, meaning)"
        )
    for field in ("name", "meaning"):
        text: Any = getattr(column, field)
        if not isinstance(text, str) or not text.strip():
            raise Failed(f"the {field} of column {column.name!r} is {text!r}; write a text")
    if column.low is not None and column.high is not None and not column.low < column.high:
        raise Failed(f"column {column.name!r} has low {column.low} and high {column.high}; low must be less")
    near = "" if column.role in ROLES else suggestion(column.role, ROLES)
    if column.role and near:
        raise Failed(f"column {column.name!r} has the role {column.role!r}{near}")


@CHECKS.add("scores", needs=["columns"])
def _scores(subject: _Subject) -> Numbers:
    """One dict per image, of finite numbers by the names in columns."""
    rows = subject.score_raw(subject.images)
    if not isinstance(rows, list) or len(rows) != len(subject.pairs):
        what = f"{len(rows)} scores" if isinstance(rows, list) else f"a {type(rows).__name__}"
        raise Failed(f"it returned {what} for {len(subject.pairs)} images; return a list of one dict each")
    known = [column.name for column in subject.metric.columns]
    for row, (_, prompt) in zip(rows, subject.pairs, strict=True):
        for name, value in row.items():
            if name not in known:
                raise Failed(f"{prompt.text!r} was scored in {name!r}; columns names {', '.join(known)}")
            if not is_number(value):
                raise Failed(
                    f"{name!r} of {prompt.text!r} is {value!r}, a {type(value).__name__}; return finite "
                    "Python numbers"
                )
    if not any(rows):
        raise Failed("no image was scored in any column")
    return {"images": len(rows), "columns used": len({name for row in rows for name in row})}


@CHECKS.add("images-untouched", needs=["scores"])
def _images_untouched(subject: _Subject) -> Numbers:
    """Scoring leaves the images as they were."""
    images = subject.images
    kept = images.clone()
    subject.score_raw(images)
    if not torch.equal(images, kept):
        raise Failed(f"pixels changed by up to {(images - kept).abs().max().item():.3g}")
    return {"images": len(images)}


@CHECKS.add("determinism", needs=["images-untouched"])
def _determinism(subject: _Subject) -> Numbers:
    """The same pictures get the same scores again, whatever random numbers were drawn between."""
    first = subject.score(subject.pairs)
    _compare(first, subject.score(subject.pairs), "at first and again", subject.pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        _compare(first, subject.score(subject.pairs), "before and after a new seed", subject.pairs)
    return {"images": len(first)}


@CHECKS.add("none-left-out", needs=["images-untouched"])
def _none_left_out(subject: _Subject) -> Numbers:
    """Which columns apply hangs on the prompt alone: a bad picture is scored low, never left out."""
    first: dict[Prompt, set[str]] = {}
    for row, (_, prompt) in zip(subject.score(subject.pairs), subject.pairs, strict=True):
        known = first.setdefault(prompt, set(row))
        if known != set(row):
            name = sorted(known ^ set(row))[0]
            raise Failed(f"{prompt.text!r} is scored in {name!r} for some pictures, and not for others")
    return {"prompts": len(first), "pictures": len(subject.bad)}


@CHECKS.add("bad-is-low", needs=["none-left-out"])
def _bad_is_low(subject: _Subject) -> Numbers:
    """Good examples score better than pictures of nothing do on average, in every column."""
    if not subject.examples:
        raise NotChecked("give examples=[(image, prompt), ...] of pictures that show their prompt")
    good = _means(subject.score(subject.examples))
    nothing = [(image, prompt) for image in subject.bad.values() for _, prompt in subject.examples]
    bad = _means(subject.score(nothing))
    lower = {column.name for column in subject.metric.columns if not column.higher_is_better}
    margins: dict[str, float] = {}
    for name, value in good.items():
        margins[name] = value - bad[name] if name not in lower else bad[name] - value
        if margins[name] <= 0:
            raise Failed(
                f"{name!r} is {value:.3g} for the examples, and {bad[name]:.3g} for {', '.join(subject.bad)}",
                **margins,
            )
    return margins


@CHECKS.add("batch-independence", needs=["determinism"])
def _batch_independence(subject: _Subject) -> Numbers:
    """A picture's scores depend neither on its neighbours in the batch nor on its place in it."""
    together = subject.score(subject.pairs)
    backwards = subject.score(subject.pairs[::-1])[::-1]
    alone = [subject.score([pair])[0] for pair in subject.pairs]
    for what, others in (("alone", alone), ("in another order", backwards)):
        _compare(together, others, f"{what} and in a batch", subject.pairs)
    return {"images": len(together)}


@CHECKS.add("range", needs=["images-untouched"])
def _range(subject: _Subject) -> Numbers:
    """Every score lies within the range that its column declares."""
    declared = {column.name: column for column in subject.metric.columns}
    rows = subject.score(subject.pairs)
    for row, (_, prompt) in zip(rows, subject.pairs, strict=True):
        for name, value in row.items():
            low, high = declared[name].low, declared[name].high
            if (low is not None and value < low) or (high is not None and value > high):
                raise Failed(
                    f"{name!r} of {prompt.text!r} is {value:.3g}; its column declares {low} to {high}"
                )
    return {"images": len(rows)}


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _compare(
    first: Sequence[dict[str, float]], second: Sequence[dict[str, float]], what: str, pairs: Sequence[Example]
) -> None:
    for one, other, (_, prompt) in zip(first, second, pairs, strict=True):
        for name in {*one, *other}:
            a, b = one.get(name), other.get(name)
            if a is None or b is None or abs(a - b) > _ROUNDING * max(1.0, abs(a)):
                raise Failed(f"{name!r} of {prompt.text!r} is {a} and {b}: {what}")


def examine_metric(
    metric: Metric,
    *,
    prompts: Sequence[Prompt] | None = None,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    examples: Sequence[Example] = (),
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check a metric; see :func:`guidelens.testing.check_metric`."""
    shape = tuple(examples[0][0].shape) if examples else image_shape
    random = torch.Generator().manual_seed(0)
    bad = {
        "noise": torch.rand(shape, generator=random) * 2 - 1,
        "black": torch.full(shape, -1.0),
        "gray": torch.zeros(shape),
        "white": torch.ones(shape),
        "a blur": pictures(1, (shape[0], shape[1], shape[2]), seed=3)[0],
    }
    subject = _Subject(
        metric,
        tuple(PROMPTS if prompts is None else prompts),
        bad,
        tuple(examples),
    )
    return ConformanceReport("metric", type(metric).__name__, CHECKS.run(subject, skip))
