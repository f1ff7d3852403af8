"""Settings, cells and cell keys of a run, and the reading of prompts. A picture depends on nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.prompts import fact_values
from guidelens.sampling import Sampling, options
from guidelens.schedules import NamedSchedule
from guidelens.text import check_characters

FORMAT = 3
"""Version of the files in a run's directory. It is part of every key, so a new format never reads old cells."""

KEY_LENGTH = 20
"""Number of hexadecimal digits of a key. With 80 bits, a million cells share a key with probability 10^-12."""

LONGEST_PROMPT = 10_000
"""Largest number of characters of a prompt. Models read less than a hundred words."""


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of ``value``: keys sorted, no spaces, floats in shortest round-trip form.

    :raises ValueError: for NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class ModelId:
    """A model of a run: its fingerprint, and its name as the user spelled it (for an object: its class name)."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class RunSettings:
    """The settings that all cells of a run share and that its pictures depend on.

    Device and batch size are left out on purpose. They change a picture only by rounding.

    :param sampling: every default filled in, see :func:`guidelens.guidance.resolve`.
    """

    generator: ModelId
    guidance: ModelId
    image_shape: tuple[int, int, int]
    sampling: Sampling

    @property
    def steps(self) -> int:
        """The number of sampling steps."""
        return self.sampling.number_of_steps

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> RunSettings:
        """Return the settings from their record (:meth:`as_dict`)."""
        channels, height, width = recorded["image_shape"]
        return cls(
            generator=ModelId(**recorded["generator"]),
            guidance=ModelId(**recorded["guidance"]),
            image_shape=(channels, height, width),
            sampling=sampling_of(recorded),
        )

    def identity(self) -> dict[str, Any]:
        """Return the settings for cell keys: :meth:`as_dict`, with the fingerprint of each model instead of its name.

        The same weights under another path are the same model.
        """
        models = {"generator": self.generator.fingerprint, "guidance": self.guidance.fingerprint}
        return {**self.as_dict(), **models}

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, the most important first. Mismatches are reported in this order."""
        return {
            "generator": asdict(self.generator),
            "guidance": asdict(self.guidance),
            "image_shape": list(self.image_shape),
            **self.sampling.as_dict(),
        }


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """Return the sampling of recorded settings (:meth:`RunSettings.as_dict`)."""
    return Sampling.of({each.name: settings[each.name] for each in options()})


@dataclass(frozen=True)
class Cell:
    """One picture of a run."""

    prompt: Prompt
    schedule: NamedSchedule
    seed: int

    def resolved(self, settings: RunSettings) -> dict[str, Any]:
        """Return the cell's entire configuration as JSON values."""
        weights = self.schedule.table(settings.steps).by_objective
        facts = fact_values(self.prompt.facts)
        return {
            "format": FORMAT,
            "prompt": self.prompt.text,
            "target": self.prompt.target,
            **({"facts": facts} if facts else {}),
            "schedule": {"name": self.schedule.name, "weights": weights},
            "seed": self.seed,
            "settings": settings.identity(),
        }

    def key(self, settings: RunSettings) -> str:
        """Return the first :data:`KEY_LENGTH` hexadecimal digits of the SHA-256 of the resolved
        configuration.
        """
        text = canonical_json(self.resolved(settings))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def as_prompts(prompts: str | Iterable[str | Prompt]) -> tuple[Prompt, ...]:
    """Return texts or prompts as prompts. Exact repetitions (same text, same target) are dropped.

    :raises UsageError: no prompt, or one that is empty, too long or not valid UTF-8 text.
    """
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise UsageError("no prompts: give at least one, or a prompt set that has some")
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


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, old value, new value) of every setting that differs, names dotted.

    A setting that is missing on one side counts as None there.
    """
    before, after = dict(flat_settings(old)), dict(flat_settings(new))
    return [
        (name, before.get(name), after.get(name))
        for name in [*after, *(name for name in before if name not in after)]
        if before.get(name) != after.get(name)
    ]


def flat_settings(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every setting, names dotted."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from flat_settings(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
