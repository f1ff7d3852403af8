"""What one picture of a run depends on: settings, cells and their keys; and how a request for prompts or
seeds is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guidelens.contracts import Prompt, Schedule
from guidelens.errors import UsageError
from guidelens.guarding import weights_at
from guidelens.text import check_characters

FORMAT = 1
"""Version of the files in a run's directory; part of every key, so that a change of format never reads stale
cells.
"""

KEY_LENGTH = 20
"""Hexadecimal digits of a key: 80 bits, so a clash among a million cells is a one in 10^12 event."""

LONGEST_PROMPT = 10_000
"""Characters that a prompt may have; models read less than a hundred words."""
MAX_SEEDS = 100_000
_RESPACING = re.compile(r"ddim[1-9]\d*|[1-9]\d*(,[1-9]\d*)*")
_SEED_PART = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of ``value``: keys sorted, no spaces, floats in shortest round-trip form.

    :raises ValueError: for NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Settings:
    """Everything that the cells of one run share and that a picture depends on.

    The device and the batch size are left out on purpose: they change a picture by rounding at most.
    """

    generator: str
    """Specification as the user spelled it (``shapes``, ``guided-diffusion:checkpoint=a.pt``) or a class
    name.
    """
    generator_fingerprint: str
    guidance: str
    guidance_fingerprint: str
    image_shape: tuple[int, int, int]
    steps: int
    sampler: str
    eta: float
    dtype: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """The guidance options, with the scale of every objective filled in."""
    respacing: str = ""
    """How ``steps`` timesteps are chosen, as :func:`split_steps` has it."""

    @property
    def scale(self) -> float:
        """The overall guidance scale s."""
        return float(self.options.get("scale", 1.0))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, the most telling ones first (mismatches are named in this
        order).
        """
        return {
            "generator": {"name": self.generator, "fingerprint": self.generator_fingerprint},
            "guidance": {"name": self.guidance, "fingerprint": self.guidance_fingerprint},
            "image_shape": list(self.image_shape),
            "steps": self.steps,
            # Left out where it is the usual one, so that keys are what they were before there was a choice.
            **({"respacing": self.respacing} if self.respacing else {}),
            "sampler": self.sampler,
            "eta": float(self.eta),
            "dtype": self.dtype,
            **{name: _json_value(value) for name, value in self.options.items()},
        }


@dataclass(frozen=True)
class NamedSchedule:
    """A schedule and the name it goes by in rows, tables and pages."""

    name: str
    schedule: Schedule

    def table(self, steps: int) -> dict[str, list[float]]:
        """Return each objective's weight at each of ``steps`` steps: what the schedule *does*, whatever it is
        made of.

        :raises UsageError: when a weight is not a finite number.
        """
        rows = [dict(weights_at(self.schedule, i / max(steps - 1, 1))) for i in range(steps)]
        names = sorted({name for row in rows for name in row})
        table = {name: [float(row.get(name, 0.0)) for row in rows] for name in names}
        for name, weights in table.items():
            for i, weight in enumerate(weights):
                if weight != weight or weight in (float("inf"), float("-inf")):
                    raise UsageError(f"schedule {self.name!r} gives {name} the weight {weight} at step {i}")
        return {name: weights for name, weights in table.items() if any(weights)}


@dataclass(frozen=True)
class Cell:
    """One picture of a run."""

    prompt: Prompt
    schedule: NamedSchedule
    seed: int

    def resolved(
        self, settings: Settings, table: Mapping[str, Sequence[float]] | None = None
    ) -> dict[str, Any]:
        """Return the cell's entire configuration as JSON values; ``table`` saves computing the weights
        again.
        """
        weights = self.schedule.table(settings.steps) if table is None else table
        return {
            "format": FORMAT,
            "prompt": self.prompt.text,
            "target": self.prompt.target,
            "schedule": {"name": self.schedule.name, "weights": {k: list(v) for k, v in weights.items()}},
            "seed": self.seed,
            "settings": settings.as_dict(),
        }

    def key(self, settings: Settings, table: Mapping[str, Sequence[float]] | None = None) -> str:
        """Return the first :data:`KEY_LENGTH` hexadecimal digits of the SHA-256 of the resolved
        configuration.
        """
        text = canonical_json(self.resolved(settings, table))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``4`` (the seeds 0 to 3) or a list of seeds and ranges such as ``0,3,7-9`` (a single seed:
    ``7-7``).

    :raises UsageError: when the text is neither, or names more than :data:`MAX_SEEDS` seeds.
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        count = int(text) if len(text) < 20 else MAX_SEEDS + 1  # Python refuses thousands of digits
        if not 1 <= count <= MAX_SEEDS:
            hint = f"; for the one seed {text} write {text}-{text}" if len(text) < 20 else ""
            raise UsageError(f"--seeds {text[:40]}: the number of seeds must be from 1 to {MAX_SEEDS}{hint}")
        return tuple(range(count))
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = _SEED_PART.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--seeds {text[:40]!r}: give a number of seeds (4) or a list such as 0,3,7-9")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first or last - first >= MAX_SEEDS or last >= 2**63:
            raise UsageError(
                f"--seeds {text!r}: {part.strip()!r} is not a rising range of at most {MAX_SEEDS} seeds"
            )
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return tuple(seeds)


def split_steps(steps: int | str) -> tuple[int, str]:
    """Return the number of sampling steps, and how their timesteps are chosen.

    :param steps: a number; ``ddim25``; or numbers by section such as ``10,10,5``: see
        :func:`guidelens.diffusion.process.space_timesteps`.
    :returns: the number, and an empty text (spread evenly), ``ddim``, or the numbers by section.
    :raises UsageError: when it is none of these.
    """
    text = re.sub(r"\s", "", str(steps))
    if not _RESPACING.fullmatch(text):
        raise UsageError(
            f"{steps!r} sampling steps: give a number from 1 on, ddim and a number (ddim25), or numbers by section "
            "(10,10,5)"
        )
    if text.startswith("ddim"):
        return int(text.removeprefix("ddim")), "ddim"
    counts = [int(part) for part in text.split(",")]
    return sum(counts), text if len(counts) > 1 else ""


def join_steps(number: int, respacing: str) -> int | str:
    """Return steps as :func:`split_steps` reads them, in their one spelling."""
    return f"ddim{number}" if respacing == "ddim" else respacing or number


def as_prompts(prompts: str | Iterable[str | Prompt]) -> tuple[Prompt, ...]:
    """Turn text or prompts into prompts, dropping exact repetitions (the same text scored against the same
    target).

    :raises UsageError: when there is none, or one is empty, too long, or not text that can be written as UTF-8.
    """
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise UsageError("no prompts: give at least one, or a prompt set that holds some")
    unique: dict[tuple[str, str], Prompt] = {}
    for i, item in enumerate(listed):
        prompt = item if isinstance(item, Prompt) else Prompt(item)
        if not prompt.text.strip():
            raise UsageError(f"prompt {i + 1} of {len(listed)} is empty")
        if len(prompt.text) > LONGEST_PROMPT:
            raise UsageError(
                f"prompt {i + 1} of {len(listed)} has {len(prompt.text):,} characters; "
                f"at most {LONGEST_PROMPT:,} are read"
            )
        check_characters(prompt.text, f"prompt {i + 1} of {len(listed)}")
        check_characters(prompt.target, f"the reference of prompt {i + 1}")
        unique.setdefault((prompt.text, prompt.target), prompt)
    return tuple(unique.values())


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return (name, old value, new value) of the first setting that differs, names dotted; None when all
    agree.

    A setting that only one side has counts as None on the other.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    for name in [*after, *(name for name in before if name not in after)]:
        if before.get(name) != after.get(name):
            return name, before.get(name), after.get(name)
    return None


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json_value(value[k]) for k in sorted(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_value(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
