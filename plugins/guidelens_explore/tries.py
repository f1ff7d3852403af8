"""A try: what one drawing of the page asks for, and the same request as a command, as Python and as a study."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guidelens.errors import UsageError
from guidelens.sampling import Sampling, options

MAX_SCHEDULES = 5
"""Schedules that are drawn side by side."""

MAX_STEPS = 1000
"""Steps of one drawing."""

SAMPLING = ("steps", "scale", "sampler")
"""The options of the sampling that the page has."""

_FIELDS = ("prompt", "schedules", "seed", *SAMPLING, "generator", "guidance")


@dataclass(frozen=True)
class Try:
    """One drawing: a prompt under several schedules, from the same noise.

    :param plugins: what loads the plugins again that offer its parts.
    """

    prompt: str
    schedules: tuple[str, ...]
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    generator: str | None = None
    guidance: str | None = None
    plugins: tuple[str, ...] = ()

    @classmethod
    def read(cls, content: object, plugins: tuple[str, ...] = ()) -> Try:
        """Return the try that a page asks for.

        :raises UsageError: naming what is wrong with it.
        """
        if not isinstance(content, Mapping):
            raise UsageError("the request is not a JSON object")
        unknown = sorted(content.keys() - set(_FIELDS))
        if unknown:
            raise UsageError(f"the request has an unknown field {unknown[0]!r}; it has {', '.join(_FIELDS)}")
        given = {name: content[name] for name in SAMPLING if name in content}
        sampling = Sampling.of(given)
        if sampling.number_of_steps > MAX_STEPS:
            raise UsageError(
                f"at most {MAX_STEPS} steps are drawn here, got {sampling.number_of_steps}", setting="steps"
            )
        return cls(
            prompt=_text(content, "prompt"),
            schedules=_schedules(content.get("schedules")),
            seed=_seed(content.get("seed", 0)),
            sampling=sampling,
            generator=_text(content, "generator") or None,
            guidance=_text(content, "guidance") or None,
            plugins=plugins,
        )

    def command(self) -> str:
        """Return the command that draws the same pictures into a directory."""
        words = ["guidelens", "compare"]
        words += [word for plugin in self.plugins for word in ("-p", plugin)]
        words += [word for schedule in self.schedules for word in ("--schedule", schedule)]
        words += ["--seeds", f"{self.seed}-{self.seed}"]
        for flag, spec in (("--generator", self.generator), ("--guidance", self.guidance)):
            words += [flag, spec] if spec is not None else []
        words += [*self.sampling.arguments(None), "--out", "runs/try"]
        return shlex.join([*words, "--", self.prompt])

    def python(self) -> str:
        """Return the Python that draws them."""
        chosen = self._chosen()
        options_given = ", ".join(f"{name}={_literal(value)}" for name, value in chosen.items())
        arguments = [
            f"schedules={_literal(list(self.schedules))}",
            f"seeds=[{self.seed}]",
            *([f"sampling=Sampling({options_given})"] if chosen else []),
            *([f"generator={_literal(self.generator)}"] if self.generator else []),
            *([f"guidance={_literal(self.guidance)}"] if self.guidance else []),
            *([f"plugins=PluginManager.load({_literal(list(self.plugins))})"] if self.plugins else []),
            'out="runs/try"',
        ]
        names = [*(["PluginManager"] if self.plugins else []), *(["Sampling"] if chosen else []), "compare"]
        body = "".join(f"    {argument},\n" for argument in arguments)
        return (
            f"from guidelens import {', '.join(names)}\n\n"
            f"result = compare(\n    {_literal(self.prompt)},\n{body})\n"
            'for row in result.rows:\n    print(row["schedule"], row["metrics"])\n'
        )

    def study(self) -> str:
        """Return the study file that draws them."""
        keys = {known.name: known.study_key for known in options()}
        pairs: list[tuple[str, Any]] = [
            ("name", "try"),
            ("summary", "found with guidelens explore"),
            *([("plugins", list(self.plugins))] if self.plugins else []),
            *([("generator", self.generator)] if self.generator else []),
            *([("guidance", self.guidance)] if self.guidance else []),
            ("prompts", [self.prompt]),
            ("schedules", list(self.schedules)),
            ("seeds", [self.seed]),
            *((keys[name], value) for name, value in self._chosen().items()),
        ]
        return "".join(f"{key} = {_literal(value)}\n" for key, value in pairs)

    def _chosen(self) -> dict[str, Any]:
        """Return the options of the sampling that are not at their default."""
        plain, mine = Sampling().as_dict(), self.sampling.as_dict()
        return {name: mine[name] for name in SAMPLING if mine[name] != plain[name]}


def _literal(value: Any) -> str:
    """Write a text, a number or a list of them as TOML and Python both read it: as JSON, with DEL escaped."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name) or ""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text, got {value!r}", setting=name)
    return value.strip()


def _schedules(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"schedules must be a list of names, got {value!r}", setting="schedules")
    found = tuple(dict.fromkeys(item.strip() for item in value if item.strip()))
    if not 1 <= len(found) <= MAX_SCHEDULES:
        raise UsageError(
            f"choose one to {MAX_SCHEDULES} schedules; {len(found)} are chosen", setting="schedules"
        )
    return found


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise UsageError(f"the seed must be a whole number from 0 on, got {value!r}", setting="seed")
    return value
