"""Shared parts of both trainings: seeded batches, learning-rate schedule, EMA, checkpoints and log."""

from __future__ import annotations

import json
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from guidelens.errors import GuidelensError
from guidelens.files import replacing
from guidelens.weights.reading import read_torch
from torch import Tensor, nn


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one training step, so that a resumed run draws the same as an uninterrupted one."""
    return (seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF_FFFF


def step_rngs(seed: int, step: int) -> tuple[random.Random, torch.Generator]:
    """Return the two sources of randomness of one training step."""
    value = step_seed(seed, step)
    return random.Random(value), torch.Generator().manual_seed(value)


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Return the learning rate: linear warm-up, then half a cosine down to 0 at ``total``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * peak * (1 + math.cos(math.pi * done))


class Ema:
    """Exponential moving average of the trainable parameters: e <- d e + (1 - d) p, with d warmed up over steps."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.live = [p for p in parameters if p.requires_grad]
        self.average = [p.detach().clone() for p in self.live]

    def update(self, step: int) -> None:
        """Update the averages with the parameters after ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.live], 1 - decay)

    def restore(self, saved: Iterable[Tensor]) -> None:
        """Restore the averages of a checkpoint."""
        for average, value in zip(self.average, saved, strict=True):
            average.copy_(value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the parameters their averages while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, live in zip(self.average, self.live, strict=True):
            value = live.detach().clone()
            live.data.copy_(average)
            average.copy_(value)


@dataclass
class Run:
    """The folder of a training: its checkpoint and log, and how to resume."""

    folder: Path
    config: dict[str, Any]
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The file with the state to resume from."""
        return self.folder / "last.pt"

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None at the start.

        :raises GuidelensError: the folder holds a training with another configuration, or a damaged state.
        """
        if not self.checkpoint.exists():
            return None
        state: dict[str, Any] = read_torch(self.checkpoint, f"the training in {self.folder}")
        if not isinstance(state, dict) or "config" not in state:
            raise GuidelensError(f"{self.checkpoint} is not the state of a training: choose another folder")
        for key, value in self.config.items():
            if state["config"].get(key) != value:
                raise GuidelensError(
                    f"{self.folder} holds a training with {key}={state['config'].get(key)!r}, not {value!r}: "
                    "choose another folder or the same settings"
                )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the state atomically."""
        with replacing(self.checkpoint) as temporary:
            torch.save({**state, "config": self.config}, temporary)

    def log(self, **row: Any) -> None:
        """Append one row to ``log.jsonl``."""
        row["minutes"] = round((time.monotonic() - self.started) / 60, 2)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def optimizer_for(parameters: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay for matrices only. The learning rate is set at every step."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))


def take_step(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    parameters: list[nn.Parameter],
    rate: float,
    clip: float = 1.0,
) -> float:
    """Back-propagate, clip the gradient norm and take a step. Return the norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    return float(norm)


@dataclass(frozen=True, kw_only=True)
class Settings(ABC):
    """The settings that both trainings have.

    :param warmup: steps until the highest learning rate.
    :param weight_decay: weight decay of matrices.
    :param seed: seed of weights, scenes and noise.
    """

    batch_size: int
    peak_rate: float
    weight_decay: float
    ema_decay: float
    warmup: int = 300
    seed: int = 0

    @property
    @abstractmethod
    def steps(self) -> int:
        """Number of optimiser steps."""


class Fit:
    """Model, optimiser and averages of a training, resumed from its folder.

    :param load_init: gives the model the weights to start from. Not called if the training is resumed.
    """

    def __init__(
        self, run: Run, model: nn.Module, settings: Settings, load_init: Callable[[], None] | None = None
    ) -> None:
        state = run.load()
        if state is None and load_init is not None:
            load_init()
        self._model, self._settings = model, settings
        self._parameters = list(model.parameters())
        self.ema = Ema(self._parameters, settings.ema_decay)
        self._optimizer = optimizer_for(self._parameters, settings.weight_decay)
        self.start = 0
        """The first step that was not taken yet."""
        self.running: dict[str, float] = {}
        """Running means of the losses."""
        if state is not None:
            self.start = state["step"]
            model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.ema.restore(state["ema"])

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        settings = self._settings
        return learning_rate(step, settings.steps, settings.peak_rate, settings.warmup)

    def take_step(self, step: int, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Take one step down ``loss``. ``parts`` are the losses to report."""
        take_step(self._optimizer, loss, self._parameters, self.rate(step))
        self.ema.update(step)
        for name, value in parts.items():
            self.running[name] = 0.98 * self.running.get(name, value.item()) + 0.02 * value.item()

    def is_due(self, done: int, save_every: int) -> bool:
        """Return whether to save after ``done`` steps."""
        return done % save_every == 0 or done == self._settings.steps

    def state(self, done: int) -> dict[str, Any]:
        """Return copies of what is needed to resume after ``done`` steps."""
        live = {name: value.clone() for name, value in self._model.state_dict().items()}
        average = [value.clone() for value in self.ema.average]
        return {"model": live, "optimizer": self._optimizer.state_dict(), "ema": average, "step": done}
