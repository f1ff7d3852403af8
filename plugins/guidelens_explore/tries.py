"""A try is one drawing request of the page. It can be converted to a command, to Python and to a study file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import click
from guidelens.cli.sampling_flags import sampling_flags, sampling_of
from guidelens.errors import UsageError
from guidelens.sampling import NONE, Sampling, options

MAX_SCHEDULES = 5
"""Maximum number of schedules that are drawn side by side."""

UNGUIDED = "none"
"""The schedule of the first column, as runs spell it."""

MAX_STEPS = 1000
"""Maximum number of steps of one drawing."""

CONTROLS = ("steps", "scale", "sampler")
"""Sampling options that have their own controls on the page."""

_FIELDS = ("prompt", "schedules", "seed", *CONTROLS, "options", "generator", "guidance")


@dataclass(frozen=True)
class Try:
    """One drawing: a prompt under several schedules, from the same noise.

    :param plugins: the plugins to load for its components, as ``-p`` takes them.
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
        """Read the try from a request of the page.

        :raises UsageError: the request is invalid. The message names the problem.
        """
        if not isinstance(content, Mapping):
            raise UsageError("the request is not a JSON object")
        unknown = sorted(content.keys() - set(_FIELDS))
        if unknown:
            raise UsageError(f"the request has an unknown field {unknown[0]!r}; it has {', '.join(_FIELDS)}")
        given = {name: content[name] for name in CONTROLS if name in content}
        sampling = replace(_read_options(_text(content, "options")), **given)
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

    @property
    def all_schedules(self) -> list[str]:
        """The schedules of all columns, in order. A batch of other schedules would be rounded differently."""
        return list(dict.fromkeys((UNGUIDED, *self.schedules)))

    def command(self) -> str:
        """Return the command that draws the same pictures into a directory."""
        words = ["guidelens", "compare"]
        words += [word for plugin in self.plugins for word in ("-p", plugin)]
        words += [word for schedule in self.all_schedules for word in ("--schedule", schedule)]
        words += ["--seeds", f"{self.seed}-{self.seed}"]
        for flag, spec in (("--generator", self.generator), ("--guidance", self.guidance)):
            words += [flag, spec] if spec is not None else []
        words += [*self.sampling.arguments(None), "--out", "runs/try"]
        return shlex.join([*words, "--", self.prompt])

    def python(self) -> str:
        """Return the Python that draws them."""
        chosen = ", ".join(f"{name}={_python(value)}" for name, value in self._chosen().items())
        arguments = [
            f"schedules={_python(self.all_schedules)}",
            f"seeds=[{self.seed}]",
            *([f"sampling=Sampling({chosen})"] if chosen else []),
            *([f"generator={_python(self.generator)}"] if self.generator else []),
            *([f"guidance={_python(self.guidance)}"] if self.guidance else []),
            *([f"plugins=PluginManager.load({_python(list(self.plugins))})"] if self.plugins else []),
            'out="runs/try"',
        ]
        names = [*(["PluginManager"] if self.plugins else []), *(["Sampling"] if chosen else []), "compare"]
        body = "".join(f"    {argument},\n" for argument in arguments)
        return (
            f"from guidelens import {', '.join(names)}\n\n"
            f"result = compare(\n    {_python(self.prompt)},\n{body})\n"
            'for row in result.rows:\n    print(row["schedule"], row["metrics"])\n'
        )

    def study(self) -> str:
        """Return the study file that draws them."""
        keys = {known.name: known.study_key for known in options()}
        chosen = self._chosen()
        others = {name: value for name, value in chosen.items() if not keys[name]}
        pairs: list[tuple[str, Any]] = [
            ("name", "try"),
            ("summary", "found with guidelens explore"),
            *([("plugins", list(self.plugins))] if self.plugins else []),
            *([("generator", self.generator)] if self.generator else []),
            *([("guidance", self.guidance)] if self.guidance else []),
            ("prompts", [self.prompt]),
            ("schedules", self.all_schedules),
            ("seeds", [self.seed]),
            *((keys[name], value) for name, value in chosen.items() if keys[name]),
            *([("options", others)] if others else []),
        ]
        return "".join(f"{key} = {_toml(value)}\n" for key, value in pairs)

    def _chosen(self) -> dict[str, Any]:
        """Return the sampling options that differ from their defaults."""
        plain, mine = Sampling().as_dict(), self.sampling.as_dict()
        return {name: value for name, value in mine.items() if value != plain[name]}


def _read_options(text: str) -> Sampling:
    """Return the sampling options given as flags, such as ``--into sample --eta 0.5``.

    :raises UsageError: as the command line would.
    """

    def flags(**values: Any) -> None: ...

    for declare in sampling_flags():
        flags = declare(flags)
    command = click.command("options", add_help_option=False)(flags)
    try:
        context = command.make_context("options", shlex.split(text))
    except click.ClickException as error:
        raise UsageError(f"further options: {error.format_message()}", setting="options") from None
    except ValueError as error:  # a quote is not closed
        raise UsageError(f"further options {text!r}: {error}", setting="options") from None
    return sampling_of(context, None, context.params)


def _python(value: Any) -> str:
    """Write a value as Python, with strings in double quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _toml(value: Any) -> str:
    """Write a value as TOML. None is written as in study files."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_quoted(name)} = {_toml(item)}' for name, item in value.items())} }}"
    return _quoted(NONE if value is None else value)


def _quoted(value: Any) -> str:
    """Write a string, number or boolean as JSON, with DEL escaped. TOML can read the result; Python can read the
    strings."""
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
