"""A world small enough for tests of runs and commands: an 8x8 generator, a guidance model and two metrics.

It is a plugin as well: ``--plugin tests/tiny_world.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from guidelens.contracts import Column, Prompt, TextBatch
from guidelens.hookspecs import Register, hookimpl
from torch import Tensor


class TinyGenerator:
    """Blurs: enough of a denoiser for telemetry and pictures that differ from cell to cell."""

    name = "tiny"
    image_shape = (3, 8, 8)
    prediction = "v"
    learned_variance = False

    def __init__(self, fingerprint: str = "tiny-generator-1") -> None:
        self.fingerprint = fingerprint
        self.alphas_cumprod = torch.cos(torch.linspace(0.01, 1.55, 100, dtype=torch.float64)) ** 2
        self.evaluated = 0

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        self.evaluated += len(x_t)
        return -0.3 * torch.nn.functional.avg_pool2d(x_t, 3, 1, 1)


class TinyGuidance:
    """Pulls the mean colour towards one that hangs on the length of the prompt."""

    name = "tiny-vl"
    objectives = frozenset({"itc", "cap"})
    fingerprint = "tiny-guidance-1"

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        colours = torch.tensor([[(len(p) * k % 7) / 3.5 - 1 for k in (1, 2, 3)] for p in prompts])
        notes = tuple(("does not know the word 'blorp'",) if "blorp" in p else () for p in prompts)
        return TextBatch(tuple(prompts), {"colour": colours}, notes)

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        colour = text.tensors["colour"]
        known = {
            "itc": ((images.mean((2, 3)) - colour) ** 2).mean(1) * 30,
            "cap": ((images - colour[:, :, None, None]) ** 2).mean((1, 2, 3)) * 30,
        }
        return {name: known[name] for name in objectives}


class Weights:
    """A schedule that goes linearly from one set of weights to another."""

    def __init__(self, name: str, start: Mapping[str, float], end: Mapping[str, float] | None = None) -> None:
        self.name, self.start, self.end = name, start, start if end is None else end

    def weights(self, progress: float) -> Mapping[str, float]:
        names = {*self.start, *self.end}
        return {n: (1 - progress) * self.start.get(n, 0) + progress * self.end.get(n, 0) for n in names}


class Brightness:
    """Two columns, one of which does not apply to a prompt without "above"; fails where a prompt says so."""

    name = "brightness"
    columns = (
        Column("bright", "mean pixel, 0 black to 1 white", low=0.0, high=1.0),
        Column("above", "whether the upper half is the brighter one", low=0.0, high=1.0),
    )

    def __init__(self, fails_on: str = "unscorable") -> None:
        self.fails_on = fails_on

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        answers = []
        for image, prompt in zip(images, prompts, strict=True):
            if self.fails_on in prompt.text:
                raise RuntimeError(f"cannot read\nthe picture of {prompt.text}")
            scores = {"bright": float(image.mean() + 1) / 2}
            if "above" in prompt.target:
                scores["above"] = float(image[:, :4].mean() > image[:, 4:].mean())
            answers.append(scores)
        return answers


class Contrast:
    """A second metric, to be added to a run later."""

    name = "contrast"
    columns = (Column("contrast", "standard deviation of the pixels", low=0.0),)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        return [{"contrast": float(image.std())} for image in images]


@hookimpl
def register_generators(register: Register) -> None:
    register("tiny", TinyGenerator, summary="an 8x8 blur", default=True)


@hookimpl
def register_guidance_models(register: Register) -> None:
    register("tiny-vl", TinyGuidance, summary="mean colour by length of the prompt", default=True)


@hookimpl
def register_schedules(register: Register) -> None:
    register("only-itc", lambda: Weights("only-itc", {"itc": 1.0}), summary="itc alone")
    register("turn", lambda: Weights("turn", {"cap": 1.0}, {"itc": 1.0}), summary="cap, then itc")


@hookimpl
def register_metrics(register: Register) -> None:
    register("brightness", Brightness, summary="brightness", default=True)
    register("contrast", Contrast, summary="contrast")


@hookimpl
def register_prompt_sets(register: Register) -> None:
    prompts = [
        Prompt("a red circle", "single"),
        Prompt("a dot above a line", "relation"),
        Prompt("rain", "single"),
    ]
    register("tiny-prompts", lambda: prompts, summary="three prompts", default=True)
