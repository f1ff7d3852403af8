"""Read study files (TOML) into a :class:`Study`. Errors name line and key."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guidelens.errors import UsageError
from guidelens.runs.store import STUDY, read_config
from guidelens.sampling import options
from guidelens.text import read_text

from .keys import (
    AXES,
    GRID_KEYS,
    INCLUDED_KEYS,
    SAMPLING_KEYS,
    SEARCH_KEYS,
    SEARCH_TABLE,
    STUDY_KEYS,
    PromptSource,
    Reader,
    read_conditions,
    unknown,
)
from .line_numbers import Place, find_lines, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CELLS = "cells.jsonl"
"""File in a study's directory, with one row per grid and requested cell."""

MAIN = "main"
"""Name of the only grid of a study without ``[[grid]]``."""

SETTING_KEYS = {"preset": "presets"}
"""Keys of settings that are not options of the sampling."""

A_STUDY, A_GRID = "a study", "a grid"
"""What holds keys, in messages."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Grid:
    """A grid. Every combination of its values is a condition. None or empty takes the defaults of the plugins.

    :param sampling: the values of each option of :class:`~guidelens.sampling.Sampling` in the file, under its own key
        or in ``options``.
    """

    name: str
    place: Place = ()
    summary: str = ""
    claims: tuple[str, ...] = ()
    generator: tuple[str | None, ...] = (None,)
    guidance: tuple[str | None, ...] = (None,)
    prompts: tuple[PromptSource, ...] = ()
    perturbations: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    presets: tuple[str, ...] = ("none",)
    sampling: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """An exclusion rule. A cell is left out if every named column has one of the listed values."""

    conditions: Mapping[str, tuple[Any, ...]]
    place: Place


@dataclass(frozen=True)
class Study:
    """A study file, checked as far as possible without plugins.

    :param text: content of the file.
    :param label: its name in messages.
    :param base: folder for relative paths in it.
    """

    name: str
    text: str
    label: str
    base: Path
    lines: Mapping[Place, int] = field(repr=False)
    grids: tuple[Grid, ...]
    rules: tuple[Rule, ...] = ()
    summary: str = ""
    plugins: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int | str = 16
    snapshots: tuple[float, ...] = ()
    step_seconds: float | None = None
    """What a guided step of one picture takes, for a dry run that cannot measure it."""
    perturbation_seed: int = 0
    included: Mapping[str, str] = field(default_factory=dict)
    """The text of each file that ``include`` names."""
    search_prompts: frozenset[str] = frozenset()
    """Prompts of the search that an included file comes from; no cell has them."""
    search_seeds: frozenset[int] = frozenset()
    overrides: Mapping[str, str] = field(default_factory=dict)
    """``generator`` and ``guidance`` that replace those of the file; see :meth:`with_models`."""

    @property
    def plugin_requests(self) -> list[str]:
        """Requests that load the study's own plugins, with absolute paths of files."""
        return [str(self.base / name) if name.endswith(".py") else name for name in self.plugins]

    def with_models(self, generator: str | None = None, guidance: str | None = None) -> Study:
        """Return the study with another generator or guidance model in all its grids."""
        given = {"generator": generator, "guidance": guidance}
        models = {kind: spec for kind, spec in given.items() if spec is not None}
        if not models:
            return self
        values: dict[str, Any] = {kind: (spec,) for kind, spec in models.items()}
        grids = tuple(replace(grid, **values) for grid in self.grids)
        return replace(self, grids=grids, overrides={**self.overrides, **models})

    def error(self, place: Place, message: str) -> UsageError:
        """Return an error whose message starts with the line of a place."""
        return UsageError(f"{self.label}, line {line_of(dict(self.lines), place)}: {message}")

    def key_place(self, grid: Grid, key: str) -> Place:
        """Return the place of ``key`` of a grid: in the grid, or at the top of the file."""
        return self._written(grid, (key,)) or grid.place

    def setting_place(self, grid: Grid, setting: str) -> Place:
        """Return the place of a grid's setting, given its name in an error; if it is not in the file, the grid."""
        own = {option.name: option.study_key for option in options()}
        key = own.get(setting, SETTING_KEYS.get(setting, setting))
        found = self._written(grid, (key,) if key else ("options", setting))
        return found or grid.place

    def _written(self, grid: Grid, key: Place) -> Place | None:
        """Return the place of a key in a grid or at the top; if it has no line, the place of its table."""
        for around in (key, key[:-1]):
            for outer in (grid.place, ()):
                if around and (*outer, *around) in self.lines:
                    return (*outer, *around)
        return None


def load_study_file(path: str | Path, include: Sequence[Path] = ()) -> Study:
    """Read a study file.

    :param include: files to include besides those that it names.
    :raises UsageError: when it cannot be read, or for a mistake in it.
    """
    path = Path(path)
    text = read_text(path, f"the study {path}")
    more = tuple(str(file.absolute()) for file in include)
    return parse_study(text, label=str(path), base=path.resolve().parent, name=path.stem, include=more)


def parse_study(
    text: str,
    *,
    label: str = "study",
    base: Path | None = None,
    name: str = "study",
    included: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
) -> Study:
    """Read the text of a study file.

    :param label: its name in messages.
    :param base: folder for relative paths; None: the working directory.
    :param name: name of the study if the text has none.
    :param included: text of every file that was included when it ran; None reads the files.
    :param include: files to include besides those that it names.
    :raises UsageError: for a mistake in it, with line and key.
    :raises GuidelensError: for an included file that cannot be read.
    """
    text = text.replace("\r\n", "\n")
    parser = _Parser(text, label, base or Path.cwd(), included, include)
    return parser.study(_content(text, label), name)


def _content(text: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{label}, {_decoded(str(error), text)}") from None
    except RecursionError:
        raise UsageError(f"{label}: its values are nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UsageError(f"{label}: {error}") from None


def _decoded(message: str, text: str) -> str:
    """Rewrite the parser's message like ours: line first."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message)
    if match is not None:
        return f"line {match[2]}, column {match[3]}: {match[1]}"
    return f"line {text.rstrip().count(chr(10)) + 1}: {message}"


class _Parser:
    """Converts the content of a TOML file to a study."""

    def __init__(
        self,
        text: str,
        label: str,
        base: Path,
        included: Mapping[str, str] | None,
        include: Sequence[str] = (),
    ) -> None:
        self.lines = find_lines(text)
        self.text, self.label, self.base, self.included, self.include = text, label, base, included, include

    def study(self, content: dict[str, Any], name: str) -> Study:
        content, included, search = self._with_included(content)
        tables = {"grid": self._tables(content, "grid"), "exclude": self._tables(content, "exclude")}
        top = self._read(content, (), {**STUDY_KEYS, **AXES}, A_STUDY, others=tuple(tables))
        own = {key: value for key, value in top.items() if key in STUDY_KEYS}
        defaults = _with_sampling({key: value for key, value in top.items() if key in AXES})
        name = own.pop("name", name)
        if not _NAME.fullmatch(name):
            raise self._error(("name",), f"the name {name!r} may only have letters, digits, '.', '_' and '-'")
        grids = [self._grid(table, place, defaults) for table, place in tables["grid"]]
        if not grids:
            grids = [Grid(MAIN, **defaults)]
        self._distinct(grids)
        return Study(
            name=name,
            text=self.text,
            label=self.label,
            base=self.base,
            lines=self.lines,
            grids=tuple(grids),
            rules=tuple(self._rule(table, place) for table, place in tables["exclude"]),
            included=included,
            search_prompts=frozenset(prompt for each in search for prompt in each.get("prompts", ())),
            search_seeds=frozenset(seed for each in search for seed in each.get("seeds", ())),
            **own,
        )

    def _with_included(
        self, content: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, str], list[dict[str, Any]]]:
        """Return the content with what it includes, the included texts, and the searches that these come from.

        What the study itself says goes before what it includes.
        """
        own = dict(content)
        try:
            names = STUDY_KEYS["include"](own.pop("include")) if "include" in own else ()
        except ValueError as error:
            raise self._error(("include",), f"include: {error}") from None
        # A study that was recorded includes what it included then, by its file or by the command.
        names = tuple(dict.fromkeys((*names, *self.include, *(self.included or ()))))
        texts, merged, searches = {}, {}, []
        for name in names:
            if self.included is not None and name not in self.included:
                raise self._error(("include",), f"the text of {name} is not recorded")
            texts[name] = self._read_included(name) if self.included is None else self.included[name]
            inner = _Parser(texts[name], name, self.base, {})
            found = _content(texts[name], name)
            inner._read(found, (), INCLUDED_KEYS, "an included file", others=(SEARCH_TABLE,))
            searches.append(
                inner._read(found.pop(SEARCH_TABLE, {}), (SEARCH_TABLE,), SEARCH_KEYS, "a search")
            )
            merged.update(found)
        return {**merged, **own}, texts, searches

    def _read_included(self, name: str) -> str:
        text = read_text(self.base / Path(name).expanduser(), f"{name}, which {self.label} includes")
        return text.replace("\r\n", "\n")

    def _tables(self, content: Mapping[str, Any], key: str) -> list[tuple[dict[str, Any], Place]]:
        value = content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            raise self._error((key,), f"{key} must be written as [[{key}]], a table for each")
        return [(table, (key, i)) for i, table in enumerate(value)]

    def _grid(self, table: dict[str, Any], place: Place, defaults: Mapping[str, Any]) -> Grid:
        own = _with_sampling(self._read(table, place, GRID_KEYS, A_GRID))
        if "name" not in own:
            raise self._error(place, 'the grid has no name; add name = "..."')
        sampling = {**defaults["sampling"], **own["sampling"]}
        return Grid(place=place, **{**defaults, **own, "sampling": sampling})

    def _distinct(self, grids: list[Grid]) -> None:
        seen: set[str] = set()
        for grid in grids:
            if grid.name in seen:
                raise self._error((*grid.place, "name"), f"two grids have the name {grid.name!r}")
            seen.add(grid.name)

    def _rule(self, table: dict[str, Any], place: Place) -> Rule:
        try:
            return Rule(read_conditions(table), place)
        except KeyError as error:
            name, message = error.args
            raise self._error((*place, name), f"in [[exclude]], {message}") from None
        except ValueError as error:
            raise self._error(place, f"in [[exclude]], {error}") from None

    def _read(
        self,
        table: Mapping[str, Any],
        place: Place,
        readers: Mapping[str, Reader],
        what: str,
        others: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        result = {}
        for key, value in table.items():
            if key in others:
                continue
            here = (*place, key)
            if key not in readers:
                raise self._error(here, self._unknown(key, readers, what, others))
            try:
                result[key] = readers[key](value)
            except KeyError as error:
                name, message = error.args
                raise self._error((*here, name), f"{key}: {message}") from None
            except ValueError as error:
                raise self._error(here, f"{key}: {error}") from None
        return result

    def _unknown(self, key: str, readers: Mapping[str, Reader], what: str, others: tuple[str, ...]) -> str:
        if key in STUDY_KEYS and what == A_GRID:
            return f"{key} holds for the whole study: write it at the top, before the first [[grid]]"
        if key in GRID_KEYS and what == A_STUDY:
            return f"{key} belongs to one grid: write it below a [[grid]]"
        return f"{what} has no key {unknown(key, [*readers, *others])}"

    def _error(self, place: Place, message: str) -> UsageError:
        return UsageError(f"{self.label}, line {line_of(self.lines, place)}: {message}")


def _with_sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of keys. Values of sampling options are collected by option name."""
    rest = {key: value for key, value in values.items() if key not in SAMPLING_KEYS and key != "options"}
    own = {option.name: values[key] for key, option in SAMPLING_KEYS.items() if key in values}
    return {**rest, "sampling": {**values.get("options", {}), **own}}


def recorded_study(directory: str | Path) -> Study:
    """Return the study of a directory, as it was when it last ran.

    :raises UsageError: when it holds none.
    """
    directory = Path(directory)
    config = read_config(directory, STUDY) if directory.is_dir() else None
    if config is None:
        raise UsageError(f"{directory} holds no study; guidelens study run FILE --out DIR starts one")
    recorded = config["study"]
    study = parse_study(
        recorded["text"],
        label=recorded["label"],
        base=Path(recorded["base"]),
        name=recorded["name"],
        included=recorded.get("included", {}),
    )
    return study.with_models(**recorded.get("overrides", {}))
