"""Calls into plugin code. Any failure becomes an error of one line that names the component and the method.

A component may raise anything, including ``SystemExit`` and other classes that are not an ``Exception``, and may return
anything. The engine, metrics and the plugin manager call components only through this module. So a plugin cannot end
the program, and values that violate the contract do not reach the engine. Importing this module does not load torch.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .contracts import LARGEST, QuestionScore
from .errors import GuidelensError, UsageError
from .words import plural

if TYPE_CHECKING:
    from torch import Tensor

    from .contracts import Prompt, QuestionedScores, TextBatch

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1 << 16
"""The largest side of a picture, in pixels."""

_NAMES: dict[int, tuple[weakref.ref[Any], str]] = {}


class ComponentError(GuidelensError):
    """A component raised an exception, or returned a value that violates its contract."""


def name_component(component: object, name: str) -> None:
    """Remember the name of a built component for messages, such as ``guidance model 'x' of plugin 'y'``."""
    key = id(component)
    try:
        reference = weakref.ref(component, lambda _: _NAMES.pop(key, None))
    except TypeError:  # an object with slots: messages use its class
        return
    _NAMES[key] = (reference, name)


def name_of(component: object, kind: str = "component") -> str:
    """Return the name of a component for messages: its own if a plugin offered it, else its class.

    :param kind: its kind, such as ``generator``, for components that were given as objects.
    """
    reference, name = _NAMES.get(id(component), (None, ""))
    if reference is not None and reference() is component:
        return name
    return f"the {kind} {type(component).__module__}.{type(component).__qualname__}"


def one_line(error: BaseException) -> str:
    """Return an exception as one line, its class first. It also works if the exception's text cannot be read."""
    try:
        text = " ".join(str(error).split())
    except BaseException as other:  # a plugin's __str__
        text = f"(its text cannot be had: {type(other).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def plugin_code(who: str, doing: str) -> Iterator[None]:
    """Run plugin code inside. Exceptions become a :class:`ComponentError` of one line.

    Three kinds pass unchanged: errors of guidelens, interrupts, and out-of-memory errors, which the engine handles.

    :param who: the name of the component or plugin.
    :param doing: the call, such as ``losses()``.
    :raises ComponentError: for any other exception that is raised inside.
    """
    try:
        yield
    except (GuidelensError, KeyboardInterrupt, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if _is_out_of_memory(error):
            raise
        raise ComponentError(f"{who} failed in {doing}: {one_line(error)}") from error


def call(component: Any, kind: str, method: str, *args: Any, **options: Any) -> Any:
    """Return ``component.method(*args, **options)``, or ``component(...)`` if ``method`` is ``__call__``.

    :raises ComponentError: if it raised something other than an error of guidelens.
    """
    doing = "its forward pass" if method == "__call__" else f"{method}()"
    with plugin_code(name_of(component, kind), doing):
        target = component if method == "__call__" else getattr(component, method)
        return target(*args, **options)


class _Splitter:
    """Replaces stdout while plugin code runs. It captures output of the code's threads; others print as usual."""

    def __init__(self, stdout: Any) -> None:
        self.stdout = stdout
        self.kept: dict[int, io.StringIO] = {}

    def write(self, text: str) -> int:
        return int(self.kept.get(threading.get_ident(), self.stdout).write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stdout, name)


_LOCK = threading.Lock()


@contextmanager
def captured_output(who: str) -> Iterator[None]:
    """Keep output of plugin code out of stdout, which contains results. ``-v`` shows the output. Thread-safe.

    :param who: the name of the plugin.
    """
    thread, printed = threading.get_ident(), io.StringIO()
    with _LOCK:
        splitter = sys.stdout if isinstance(sys.stdout, _Splitter) else _Splitter(sys.stdout)
        outer = splitter.kept.get(thread)
        splitter.kept[thread] = printed
        sys.stdout = splitter
    try:
        yield
    finally:
        with _LOCK:
            if outer is not None:
                splitter.kept[thread] = outer
            else:
                del splitter.kept[thread]
            if not splitter.kept and sys.stdout is splitter:
                sys.stdout = splitter.stdout
        if text := " ".join(printed.getvalue().split()):
            logger.info("%s printed: %s", who, text)


def predict(
    generator: Any,
    x_t: Tensor,
    timesteps: Tensor,
    *,
    conditions: Tensor | None = None,
    differentiable: bool = True,
) -> Tensor:
    """Return a generator's output for x_t (B, C, H, W) and timesteps (B,): (B, C or 2C, H, W).

    The generator receives a copy of ``x_t``. Gradients flow from the copy to ``x_t``.

    :param conditions: the conditions of these samples from :func:`conditions_of`, (B, ...); None for most generators.
    :param differentiable: whether the output must have a gradient if ``x_t`` requires one.
    :raises ComponentError: if the generator raised, wrote into x_t, returned another shape or type, or returned an
        output without a required gradient.
    """
    shown = x_t.clone()
    before = shown._version
    extra = () if conditions is None else (conditions,)
    output = call(generator, "generator", "__call__", shown, timesteps, *extra)
    who = name_of(generator, "generator")
    _check_tensor(output, f"{who} returned")
    batch, channels, *sides = x_t.shape
    wanted = [(batch, count, *sides) for count in (channels, 2 * channels)]
    if tuple(output.shape) not in wanted:
        raise ComponentError(
            f"{who} returned the shape {tuple(output.shape)}; it must be {wanted[0]} or {wanted[1]}"
        )
    if differentiable and x_t.requires_grad and not output.requires_grad:
        raise ComponentError(f"{who} returned a prediction without gradient (no_grad, detach, numpy)")
    _check_untouched(shown, before, f"{who} writes into x_t")
    tensor: Tensor = output
    return tensor


def conditions_of(generator: Any, seeds: Sequence[int]) -> Tensor | None:
    """Return the conditions that a generator draws for these samples, (B, ...). None if it does not draw any.

    :raises ComponentError: if the generator raised, or did not return one row per sample.
    """
    if not callable(getattr(generator, "conditions", None)):
        return None
    drawn = call(generator, "generator", "conditions", tuple(seeds))
    who = name_of(generator, "generator")
    _check_tensor(drawn, f"{who}: conditions() returned")
    if drawn.dim() == 0 or len(drawn) != len(seeds):
        raise ComponentError(
            f"{who}: conditions() returned the shape {tuple(drawn.shape)} for {len(seeds)} samples"
        )
    tensor: Tensor = drawn
    return tensor


def decode(generator: Any, latents: Tensor) -> Tensor:
    """Decode latents (B, C, H, W) into pictures (B, 3, h, w) with the generator's decoder.

    The generator receives a copy of ``latents``. Gradients flow from the pictures to ``latents``.

    :raises ComponentError: if the generator raised, wrote into the latents, did not return pictures of its
        ``picture_shape``, or returned pictures without a gradient although ``latents`` require one.
    """
    shown = latents.clone()
    before = shown._version
    pictures = call(generator, "generator", "decode", shown)
    who = name_of(generator, "generator")
    _check_tensor(pictures, f"{who}: decode() returned")
    wanted = (len(latents), *picture_shape_of(generator))
    if tuple(pictures.shape) != wanted:
        raise ComponentError(
            f"{who}: decode() returned the shape {tuple(pictures.shape)}; it must be {wanted}"
        )
    if latents.requires_grad and not pictures.requires_grad:
        raise ComponentError(f"{who}: decode() returned pictures without gradient (no_grad, detach, numpy)")
    _check_untouched(shown, before, f"{who}: decode() writes into the latents")
    tensor: Tensor = pictures
    return tensor


def losses_of(
    model: Any,
    images: Tensor,
    text: TextBatch,
    objectives: Sequence[str],
    *,
    differentiable: bool = True,
    **extra: Any,
) -> dict[str, Tensor]:
    """Return a guidance model's losses of images (B, 3, H, W): (B,) for each of ``objectives``, in the images' dtype.

    :func:`own_losses_of` returns the same losses in the model's dtype.
    """
    losses = own_losses_of(model, images, text, objectives, differentiable=differentiable, **extra)
    return {name: loss.to(images.dtype) for name, loss in losses.items()}


def own_losses_of(
    model: Any,
    images: Tensor,
    text: TextBatch,
    objectives: Sequence[str],
    *,
    differentiable: bool = True,
    **extra: Any,
) -> dict[str, Tensor]:
    """Return a guidance model's losses of images (B, 3, H, W): (B,) for each of ``objectives``, in the model's dtype.

    The model receives a copy of ``images``. Gradients flow from the copy to ``images``.

    :param differentiable: whether the losses must have gradients.
    :param extra: further arguments of some models, such as ``timesteps``.
    :raises ComponentError: if the model raised, wrote into the images or the text, or did not return one real loss per
        sample, with gradients, for exactly ``objectives``.
    """
    shown = images.clone()
    before, encoded = shown._version, _text_versions(text)
    returned = call(model, "guidance model", "losses", shown, text, objectives, **extra)
    who = name_of(model, "guidance model")
    _check_untouched(shown, before, f"{who} writes into the images")
    if _text_versions(text) != encoded:
        raise ComponentError(
            f"{who} writes into the encoded text, which later steps read; it must work on a copy"
        )
    if not isinstance(returned, Mapping):
        raise ComponentError(f"{who} must return losses by objective, a mapping, not {_kind(returned)}")
    if set(returned) != set(objectives):
        raise ComponentError(
            f"{who} returned the losses {sorted(map(str, returned))}; it was asked for {sorted(objectives)}"
        )
    for name in objectives:
        what = f"{who}: the objective {name!r}"
        loss = returned[name]
        _check_tensor(loss, f"{what} returned")
        if tuple(loss.shape) != (len(images),):
            raise ComponentError(
                f"{what} returned {tuple(loss.shape)}; a loss per sample is {(len(images),)}"
            )
        if not loss.is_floating_point():
            raise ComponentError(f"{what} returned {loss.dtype}, and a loss is a real floating-point number")
        if differentiable and not loss.requires_grad:
            raise ComponentError(
                f"{what} is not differentiable in the images: no gradient to guide with (no_grad, detach, numpy?)"
            )
    return {name: returned[name] for name in objectives}


def encode(model: Any, prompts: Sequence[str]) -> TextBatch:
    """Return prompts as a guidance model encodes them.

    :raises ComponentError: if the model raised, or did not return a ``TextBatch`` of these prompts.
    """
    from .contracts import TextBatch

    text = call(model, "guidance model", "encode_text", tuple(prompts))
    who = name_of(model, "guidance model")
    if not isinstance(text, TextBatch):
        raise ComponentError(f"{who}: encode_text() must return a TextBatch, not {_kind(text)}")
    if tuple(text.prompts) != tuple(prompts):
        raise ComponentError(f"{who} encoded {len(text)} prompts, not the {len(prompts)} it was given")
    for name, tensor in text.tensors.items():
        _check_tensor(tensor, f"{who}: the entry {name!r} of encode_text() is")
        if tensor.dim() == 0 or len(tensor) != len(prompts):
            raise ComponentError(
                f"{who}: the entry {name!r} of encode_text() has the shape {tuple(tensor.shape)}; its first dimension "
                f"must be the prompt, {len(prompts)}"
            )
    return text


def weights_at(schedule: Any, progress: float) -> Mapping[str, float]:
    """Return a schedule's objective weights at ``progress`` in [0, 1].

    :raises ComponentError: if the schedule raised, or did not return a mapping from objectives.
    :raises UsageError: if a weight is not a number.
    """
    weights = call(schedule, "schedule", "weights", progress)
    who = name_of(schedule, "schedule")
    if not isinstance(weights, Mapping):
        raise ComponentError(
            f"{who}: weights({progress:g}) must return a mapping of objective to weight, not {_kind(weights)}"
        )
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise ComponentError(
                f"{who}: weights({progress:g}) names an objective {name!r}, which is not text"
            )
        if not _is_number(weight):
            raise UsageError(
                f"the weight of {name!r} at progress {progress:g} in {who} must be a finite number, not {weight!r}"
            )
    return weights


def scores_of(metric: Any, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
    """Return a metric's scores of images (B, 3, H, W): one dict per image, with finite numbers by declared column.

    The metric receives a copy of the images. If it writes into them, other scores do not change.

    :raises ValueError, TypeError: if the metric violates the contract. Its own exceptions pass unchanged; the caller
        adds the name of the metric.
    """
    return _checked_scores(metric, _listed(metric, "score", "a dict", images, prompts))


def questioned_scores_of(metric: Any, images: Tensor, prompts: Sequence[Prompt]) -> list[QuestionedScores]:
    """Return :func:`scores_of` and the questions behind the scores of each image. Most metrics ask none.

    :raises ValueError, TypeError: as :func:`scores_of`.
    """
    if not callable(getattr(metric, "score_questions", None)):
        return [(scores, []) for scores in scores_of(metric, images, prompts)]
    answers = _listed(metric, "score_questions", "a pair of scores and questions", images, prompts)
    if not all(isinstance(answer, tuple) and len(answer) == 2 for answer in answers):
        raise TypeError("score_questions() must return a pair of scores and questions per picture")
    scores = _checked_scores(metric, [values for values, _ in answers])
    return [(each, _checked_questions(asked)) for each, (_, asked) in zip(scores, answers, strict=True)]


def _listed(metric: Any, method: str, item: str, images: Tensor, prompts: Sequence[Prompt]) -> Sequence[Any]:
    """Call a metric's method with a copy of the images, and check that it returns one ``item`` per image."""
    given = images.clone()
    before = given._version
    answers: Any = getattr(metric, method)(given, list(prompts))
    if given._version != before:
        raise ValueError("writes into the pictures that it is given; it must work on a copy (clone())")
    if not isinstance(answers, Sequence) or isinstance(answers, str | bytes):
        raise TypeError(
            f"{method}() must return a list with {item} per picture, not a {type(answers).__name__}"
        )
    if len(answers) != len(prompts):
        raise ValueError(f"returned {len(answers)} results for {plural(len(prompts), 'picture')}")
    return answers


def _checked_questions(asked: Any) -> list[QuestionScore]:
    for question in asked:
        if not isinstance(question, QuestionScore):
            raise TypeError(f"score_questions() returned a {type(question).__name__}, not a QuestionScore")
        if not abs(float(question.score)) <= LARGEST:
            raise ValueError(f"the score of {question.text!r} is {question.score}, not a finite number")
    return list(asked)


def _checked_scores(metric: Any, answers: Sequence[Any]) -> list[dict[str, float]]:
    order = [column.name for column in metric.columns]
    for answer in answers:
        if not isinstance(answer, Mapping):
            raise TypeError(f"score() must return a list of dicts; it holds a {type(answer).__name__}")
        for column, value in answer.items():
            if column not in order:
                raise ValueError(f"column {column!r} is not among its columns {', '.join(order)}")
            if isinstance(value, str | bool) or not hasattr(type(value), "__float__"):
                raise TypeError(f"{column} is a {type(value).__name__}, not a number")
            if not abs(float(value)) <= LARGEST:
                raise ValueError(f"{column} is {value}, not a finite number{_bound(float(value))}")
    return [{column: float(answer[column]) for column in order if column in answer} for answer in answers]


def image_shape_of(generator: Any) -> tuple[int, int, int]:
    """Return a generator's image shape (C, H, W), checked.

    :raises UsageError: if it is not three positive integers.
    """
    return _shape_of(generator, "image_shape")


def is_latent(generator: Any) -> bool:
    """Return whether a generator diffuses latents, which means that it has a ``decode``."""
    return callable(getattr(generator, "decode", None))


def picture_shape_of(generator: Any) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a generator's pictures: its ``picture_shape`` if it diffuses latents.

    :raises UsageError: if it is not three positive integers.
    """
    return _shape_of(generator, "picture_shape" if is_latent(generator) else "image_shape")


def _shape_of(generator: Any, name: str) -> tuple[int, int, int]:
    with plugin_code(name_of(generator, "generator"), name):
        shape: Any = getattr(generator, name, None)
    if not (
        isinstance(shape, Sequence | tuple)
        and len(shape) == 3
        and all(
            isinstance(side, int) and not isinstance(side, bool) and 0 < side <= LONGEST_SIDE
            for side in shape
        )
    ):
        raise UsageError(
            f"{name_of(generator, 'generator')}: {name} must be (C, H, W), three positive integers, not {shape!r}"
        )
    return (shape[0], shape[1], shape[2])


def _is_number(value: Any) -> bool:
    """Return whether a value can be read as one float: a number, or a tensor with one element."""
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
    return True


def _check_tensor(value: Any, what: str) -> None:
    import torch

    if not isinstance(value, torch.Tensor):
        raise ComponentError(f"{what} {_kind(value)}, not a tensor")
    if value.is_complex():
        raise ComponentError(f"{what} complex numbers; real ones are wanted")


def _bound(value: float) -> str:
    return f" of at most {LARGEST:g}" if abs(value) > LARGEST else ""


def _text_versions(text: TextBatch) -> list[int]:
    """Return how many times each tensor of encoded text was written. Inference tensors do not count writes."""
    return [tensor._version for tensor in text.tensors.values() if not tensor.is_inference()]


def _check_untouched(shown: Tensor, before: int, what: str) -> None:
    if shown._version != before:
        raise ComponentError(f"{what} that it is given; it must work on a copy (clone())")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return False
    from .memory import is_out_of_memory

    return is_out_of_memory(error)
