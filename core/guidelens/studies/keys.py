"""The keys of a study file and their readers. Keys of the sampling are generated from its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from guidelens.errors import UsageError
from guidelens.plugins.spelling import suggestion
from guidelens.sampling import NONE, PRESETS, Option, options
from guidelens.seeds import parse_seeds


@dataclass(frozen=True)
class PromptSource:
    """A source of prompts. Exactly one of ``text``, ``set`` and ``file`` is given.

    :param text: one prompt; ``category`` and ``reference`` belong to it.
    :param set: the spelling of a prompt set, such as ``shapes:category=single``.
    :param file: a CSV, TSV or text file, relative to the study file; - reads standard input.
    :param column: the column of a CSV or TSV file that holds the prompts.
    :param categories: keep only prompts of these categories; empty: all.
    :param limit: number of prompts to keep; None: all.
    :param seed: draw the kept prompts at random; None: keep the first.
    """

    text: str = ""
    reference: str | None = None
    set: str = ""
    file: str = ""
    column: str = ""
    categories: tuple[str, ...] = ()
    limit: int | None = None
    seed: int | None = None


MOST_SNAPSHOTS = 1000

Reader = Callable[[Any], Any]
"""Reads and checks the value of a key. Raises ValueError with what was expected."""


def read_text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, not {shown(value)}")
    return value.strip()


def read_number(value: Any) -> float:
    """Read a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a number, not {shown(value)}")
    return float(value)


def read_seconds(value: Any) -> float:
    """Read a number of seconds above 0."""
    if read_number(value) <= 0:
        raise ValueError(f"expected seconds above 0, not {shown(value)}")
    return float(value)


def read_count(value: Any, least: int = 1) -> int:
    """Read a whole number from ``least`` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected a whole number from {least} on, not {shown(value)}")
    return value


def one_or_more(read: Reader, *, what: str = "value") -> Reader:
    """Return the reader of one value or a list of values, as a tuple without repetitions."""

    def read_all(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError(f"the list is empty; give at least one {what}, or leave the key out")
        result: list[Any] = []
        for item in values:
            if (one := read(item)) not in result:
                result.append(one)
        return tuple(result)

    return read_all


def read_seeds(value: Any) -> tuple[int, ...]:
    """Read a number of seeds, a list of seeds, or a text such as ``"0,3,7-9"``."""
    if isinstance(value, list):
        seeds: tuple[int, ...] = one_or_more(lambda item: read_count(item, 0), what="seed")(value)
        if max(seeds) >= 2**63:
            raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, not {shown(max(seeds))}")
        return seeds
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f'expected a number of seeds, a list, or a text such as "0,3,7-9", not {shown(value)}'
        )
    try:
        return parse_seeds(str(value))
    except UsageError as error:
        raise ValueError(str(error)) from None


def read_preset(value: Any) -> str:
    """Read the name of a preset, or ``none``."""
    return _choice(value, (NONE, *PRESETS))


def read_prompts(value: Any) -> tuple[PromptSource, ...]:
    """Read texts, and tables with ``text``, ``set`` or ``file``, one or several."""
    return one_or_more(_prompt_source, what="prompt")(value)


def read_snapshots(value: Any) -> tuple[float, ...]:
    """Read a number of evenly spaced steps, or a list of progress values in [0, 1]."""
    if isinstance(value, list):
        if len(value) > MOST_SNAPSHOTS:
            raise ValueError(f"at most {MOST_SNAPSHOTS} snapshots are kept, not {len(value)}")
        chosen = tuple(sorted({read_number(p) for p in value}))
        if any(not 0 <= p <= 1 for p in chosen):
            raise ValueError(f"progress runs from 0 (the noisiest step) to 1, not {shown(value)}")
        return chosen
    count = read_count(value, 0)
    if count > MOST_SNAPSHOTS:
        raise ValueError(f"at most {MOST_SNAPSHOTS} snapshots are kept, not {shown(count)}")
    return tuple(i / max(count - 1, 1) for i in range(count))


def read_batch_size(value: Any) -> int | str:
    """Read a number of pictures, or ``auto``."""
    return value if value == "auto" else read_count(value)


def read_option(option: Option) -> Reader:
    """Return the reader of an option; ``none`` stands for no value."""

    def read(value: Any) -> Any:
        return option.read(None if value == NONE and option.optional else value)

    return read


def read_options(value: Any) -> dict[str, tuple[Any, ...]]:
    """Read a table of options that have no own key. Each has one value or a list of values.

    :raises KeyError: (name, message) for an option that does not exist or a value that does not fit.
    """
    if not isinstance(value, dict):
        raise ValueError(f'expected a table such as {{ through = "x0" }}, not {shown(value)}')
    known = {option.name: option for option in options() if not option.study_key}
    elsewhere = {option.name: option.study_key for option in options() if option.study_key}
    result = {}
    for name, given in value.items():
        if name in elsewhere:
            raise KeyError(name, f"{name} is not a key of options: write {elsewhere[name]} = ... beside it")
        if name not in known:
            raise KeyError(name, f"there is no option {unknown(name, known)}")
        try:
            result[name] = one_or_more(read_option(known[name]))(given)
        except ValueError as error:
            raise KeyError(name, f"{name} {error}") from None
    return result


def read_conditions(value: Any) -> dict[str, tuple[Any, ...]]:
    """Read an exclusion rule: columns with the values to exclude.

    :raises KeyError: (name, message) for a column that does not exist.
    """
    columns = tuple(dict.fromkeys((*CONDITIONS, *(option.name for option in options()))))
    result = {}
    for name, given in value.items():
        if name not in columns:
            raise KeyError(name, f"cells have no {unknown(name, columns)}")
        result[name] = one_or_more(lambda item: item)(given)
    if not result:
        raise ValueError("the rule names no column, so it would exclude everything")
    return result


PER_STUDY = ("dtype",)
"""Options that apply to a whole study."""

SAMPLING_KEYS = {
    option.study_key: option for option in options() if option.study_key and option.study_key not in PER_STUDY
}
"""Options with their own key in a study file, outside ``options``, by that key."""

CONDITIONS = (
    "grid",
    "generator",
    "guidance",
    "preset",
    "sampler",
    "eta",
    "steps",
    "respacing",
    "scale",
    "prompt",
    "category",
    "perturbation",
    "schedule",
    "seed",
)
"""Columns of exclusion rules, besides the other options of the sampling."""

STUDY_KEYS: dict[str, Reader] = {
    "name": read_text,
    "include": one_or_more(read_text, what="file"),
    "summary": read_text,
    "plugins": one_or_more(read_text, what="plugin"),
    "metrics": lambda value: () if value == [] else one_or_more(read_text)(value),
    **{option.study_key: read_option(option) for option in options() if option.study_key in PER_STUDY},
    "device": read_text,
    "batch_size": read_batch_size,
    "snapshots": read_snapshots,
    "step_seconds": read_seconds,
    "perturbation_seed": lambda value: read_count(value, 0),
}
"""Keys for the whole study, allowed only at the top of the file."""

AXES: dict[str, Reader] = {
    "generator": one_or_more(read_text),
    "guidance": one_or_more(read_text),
    "prompts": read_prompts,
    "perturbations": one_or_more(read_text),
    "schedules": one_or_more(read_text, what="schedule"),
    "seeds": read_seeds,
    "presets": one_or_more(read_preset),
    **{key: one_or_more(read_option(option)) for key, option in SAMPLING_KEYS.items()},
    "options": read_options,
}
"""Keys whose values span a grid. At the top of the file they apply to all grids, in a grid only to it."""

INCLUDED_KEYS: dict[str, Reader] = {key: AXES[key] for key in (*SAMPLING_KEYS, "options")}
"""Keys of a file that a study includes."""

SEARCH_TABLE = "search"
SEARCH_KEYS: dict[str, Reader] = {"prompts": one_or_more(read_text, what="prompt"), "seeds": read_seeds}
"""Keys of the table of an included file that says on what its values were found."""

GRID_KEYS: dict[str, Reader] = {
    "name": read_text,
    "summary": read_text,
    "claims": one_or_more(read_text, what="claim"),
    **AXES,
}


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        near = suggestion(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"expected {' or '.join(choices)}, not {shown(value)}{near}")
    return str(value)


def _prompt_source(value: Any) -> PromptSource:
    if isinstance(value, str):
        return PromptSource(text=read_text(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a text, or a table with text, set or file, not {shown(value)}")
    readers: dict[str, Reader] = {
        "text": read_text,
        "reference": read_text,
        "set": read_text,
        "file": read_text,
        "column": read_text,
        "category": one_or_more(read_text, what="category"),
        "limit": read_count,
        "seed": lambda given: read_count(given, 0),
    }
    alien = [name for name in value if name not in readers]
    if alien:
        raise ValueError(f"prompts have no {unknown(alien[0], readers)}")
    kinds = [name for name in ("text", "set", "file") if name in value]
    if len(kinds) != 1:
        raise ValueError(f"expected exactly one of text, set and file in {shown(value)}")
    belongs = {
        "text": {"reference", "category"},
        "set": {"category", "limit", "seed"},
        "file": {"column", "category", "limit", "seed"},
    }
    alien = [name for name in value if name not in belongs[kinds[0]] | {kinds[0]}]
    if alien:
        raise ValueError(f"{alien[0]} does not go with {kinds[0]} in {shown(value)}")
    checked = {name: readers[name](given) for name, given in value.items()}
    categories = checked.pop("category", ())
    if kinds == ["text"] and len(categories) > 1:
        raise ValueError(f"a text has one category, not {shown(list(categories))}")
    return PromptSource(**checked, categories=categories)


def unknown(name: str, known: Iterable[str]) -> str:
    """Return an unknown name with the nearest known name, or with all known names if none is near."""
    listed = list(known)
    return f"{name!r}" + (suggestion(name, listed) or f"; there are {', '.join(listed)}")


def shown(value: Any) -> str:
    """Write a value for a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
