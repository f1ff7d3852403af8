"""The search for objective scales: each objective at its own best, on prompts and seeds that no score uses.

Single objectives are drawn at several scales c_k and scored. A product s * c_k is all that matters for an objective
alone, so one number per objective is searched. Cells are those of a study in ``search/``: a search that is interrupted
continues, and successive halving draws only what is new.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import write_file
from guidelens.plugins.spelling import format_component
from guidelens.sampling import Sampling, options
from guidelens.stats import Estimate, estimate
from guidelens.words import plural

from .file import Study, parse_study
from .keys import PER_STUDY
from .results import DONE, StudyResults, load_study
from .run import StudyRun, run_study

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

FIRST_SEED = 1_000_000_000
"""The search's seeds begin here, so that they are not those that a study counts from 0."""

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
TUNED = "tuned.toml"
SEARCH = "search"
ROLE = "alignment"


@dataclass(frozen=True)
class Search:
    """What is searched, and on what.

    :param prompts: texts, or the spelling of a prompt set.
    :param count: how many prompts; of a set, the first.
    :param objectives: those that are tuned.
    :param scales: c_k of each objective at a factor of 1.
    :param factors: of the scales; each is a candidate.
    :param halving: successive halving: few prompts for all candidates, then more for the better half; else all
        candidates are drawn on all prompts.
    :param seeds: how many.
    :param column: the metric column that decides; None: the first whose role is ``alignment``.
    :param metrics: None takes those of the generator's plugin.
    """

    prompts: tuple[str, ...] | str
    count: int
    objectives: tuple[str, ...]
    scales: Mapping[str, float]
    generator: str
    guidance: str
    sampling: Sampling = field(default_factory=Sampling)
    factors: tuple[float, ...] = FACTORS
    halving: bool = True
    seeds: int = 2
    column: str | None = None
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.factors)) < 2 or not all(math.isfinite(f) and f > 0 for f in self.factors):
            raise UsageError(
                f"a search needs two different factors above 0 or more, got {list(self.factors)}",
                setting="factors",
            )
        if self.sampling.normalize != "none":
            raise UsageError(
                f"normalize={self.sampling.normalize} divides by the gradient's length, which objective scales only"
                " multiply: vary scales in a study in place of tuning",
                setting="normalize",
            )
        if self.sampling.scale == 0:
            raise UsageError("scale=0 draws unguided pictures, and nothing to tune", setting="scale")

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the search."""
        return [FIRST_SEED + k for k in range(self.seeds)]

    def rounds(self) -> list[tuple[int, int]]:
        """Return (prompts, candidates) of each round."""
        candidates = len(set(self.factors))
        if not self.halving:
            return [(self.count, candidates)]
        kept = [candidates]
        while kept[-1] > 2:
            kept.append(math.ceil(kept[-1] / 2))
        return [(math.ceil(self.count / 2 ** (len(kept) - 1 - k)), many) for k, many in enumerate(kept)]


@dataclass(frozen=True)
class Candidate:
    """A scale of an objective and how it scored, on as many prompts as it came to be drawn on."""

    scale: float
    score: Estimate
    prompts: int

    def __str__(self) -> str:
        interval = f" ({self.score.low:.3g} to {self.score.high:.3g})" if self.score.has_interval else ""
        return f"{self.score.mean:.3g}{interval}, {plural(self.prompts, 'prompt')}"


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    :param file: ``tuned.toml``, which a study includes; None where the search was stopped.
    :param column: the metric column that decided.
    :param candidates: all that were drawn, by objective, in the order of their scales.
    :param best: the chosen scale of each objective.
    :param notes: what the reader should know.
    """

    directory: Path
    file: Path | None
    column: str
    candidates: Mapping[str, list[Candidate]]
    best: Mapping[str, float]
    notes: tuple[str, ...] = ()


def tune(
    search: Search,
    *,
    out: str | Path,
    plugins: PluginManager,
    device: str = "auto",
    batch_size: int | str = 16,
    on_progress: Callable[[Any], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tuned:
    """Search the objective scales and write ``tuned.toml`` into ``out``; the same call continues an interrupted one.

    :raises UsageError: for a search that makes no sense, or a directory that holds another.
    :raises GuidelensError: if nothing can be scored.
    """
    directory = Path(out)
    survivors = {
        name: sorted({search.scales[name] * f for f in search.factors}) for name in search.objectives
    }
    found: dict[str, dict[float, Candidate]] = {name: {} for name in search.objectives}
    column, higher = "", True
    for prompts, many in search.rounds():
        survivors = {n: _survivors(survivors[n], found[n], many, higher) for n in search.objectives}
        study = search_study(search, survivors, prompts)
        done = run_study(
            study,
            out=directory / SEARCH,
            plugins=plugins,
            device=device,
            batch_size=batch_size,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        if done.stopped:
            return Tuned(directory, None, column, _listed(found), {})
        results = load_study(directory / SEARCH)
        column, higher = _deciding_column(results, search.column)
        for name, scored in _scores(results, column, prompts, done).items():
            found[name] |= scored
    # Of equally good scales the smallest.
    best = {name: _survivors(survivors[name], found[name], 1, higher)[0] for name in search.objectives}
    notes = tuple(_edge_notes(search, best))
    tuned = Tuned(directory, directory / TUNED, column, _listed(found), best, notes)
    write_file(directory / TUNED, tuned_toml(search, tuned, _prompts_of(results)).encode())
    return tuned


def search_study(search: Search, scales: Mapping[str, Sequence[float]], prompts: int) -> Study:
    """Return the study of one round: a grid per objective, of its candidates on the first ``prompts`` prompts."""
    lines = [
        'name = "search"',
        f"generator = {_toml(search.generator)}",
        f"guidance = {_toml(search.guidance)}",
        f"prompts = {_toml(_source(search, prompts))}",
        f"seeds = {_toml(search.seed_list)}",
        *([] if search.metrics is None else [f"metrics = {_toml(list(search.metrics))}"]),
        *_sampling_lines(search.sampling),
    ]
    for name, values in scales.items():
        schedule = format_component("objective", [("name", name)])
        tables = [{**search.sampling.objective_scales, name: value} for value in values]
        lines += ["", "[[grid]]", f"name = {_toml(name)}", f"schedules = {_toml(schedule)}"]
        lines += [f"objective_scales = {_toml(tables)}"]
    return parse_study("\n".join(lines) + "\n", label="the search", name=SEARCH)


def _source(search: Search, prompts: int) -> Any:
    if isinstance(search.prompts, str):
        return {"set": search.prompts, "limit": prompts}
    return list(search.prompts[:prompts])


def _sampling_lines(sampling: Sampling) -> list[str]:
    """Return the keys of a study for a sampling, without its objective scales."""
    base, own, others = Sampling(), [], {}
    for known in options():
        value = getattr(sampling, known.name)
        if known.name == "objective_scales" or value == getattr(base, known.name) or value is None:
            continue
        if known.study_key or known.name in PER_STUDY:
            own.append(f"{known.study_key} = {_toml(value)}")
        else:
            others[known.name] = value
    return [*own, *([f"options = {_toml(others)}"] if others else [])]


def _deciding_column(results: StudyResults, wanted: str | None) -> tuple[str, bool]:
    """Return the column that decides, and whether more of it is better.

    :raises UsageError: if there is none.
    """
    columns = [column for metric in results.config["metrics"] for column in metric["columns"]]
    for column in columns:
        if column["name"] == wanted or (wanted is None and column["role"] == ROLE):
            return column["name"], column["higher_is_better"]
    names = ", ".join(column["name"] for column in columns) or "none"
    what = f"no metric has the column {wanted!r}" if wanted else f"no metric has a column of the role {ROLE}"
    raise UsageError(f"{what}; there are {names}", setting="column")


def _scores(
    results: StudyResults, column: str, prompts: int, done: StudyRun
) -> dict[str, dict[float, Candidate]]:
    """Return the candidates of a round by objective and scale.

    :raises GuidelensError: if a candidate has no score at all.
    """
    values: dict[tuple[str, float], list[tuple[float, str]]] = {}
    for cell in results.cells:
        of = values.setdefault((cell["grid"], cell["objective_scales"][cell["grid"]]), [])
        if cell["status"] == DONE and column in cell["metrics"]:
            of.append((cell["metrics"][column], cell["prompt"]))
    found: dict[str, dict[float, Candidate]] = {}
    for (name, scale), scored in values.items():
        if not scored:
            why = f": {done.reasons[0][0]}" if done.reasons else ""
            raise GuidelensError(f"no picture of {name} at the scale {scale:g} has a score {column}{why}")
        score = estimate([value for value, _ in scored], [prompt for _, prompt in scored])
        found.setdefault(name, {})[scale] = Candidate(scale, score, prompts)
    return found


def _survivors(
    scales: Sequence[float], found: Mapping[float, Candidate], many: int, higher: bool
) -> list[float]:
    """Return the ``many`` best scales in ascending order, with those that are as good as the last of them."""
    if not found:
        return sorted(scales)
    values = {scale: found[scale].score.mean * (1 if higher else -1) for scale in scales}
    least = sorted(values.values(), reverse=True)[min(many, len(values)) - 1]
    return sorted(scale for scale, value in values.items() if value >= least)


def _edge_notes(search: Search, best: Mapping[str, float]) -> list[str]:
    notes = []
    for name, scale in best.items():
        tried = [search.scales[name] * factor for factor in search.factors]
        if scale in (min(tried), max(tried)):
            which = "smallest" if scale == min(tried) else "largest"
            notes.append(
                f"the best scale of {name} ({scale:g}) is the {which} that was tried: widen --factors"
            )
    return notes


def _listed(found: Mapping[str, Mapping[float, Candidate]]) -> dict[str, list[Candidate]]:
    return {name: [by_scale[scale] for scale in sorted(by_scale)] for name, by_scale in found.items()}


def _prompts_of(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(cell["clean"] for cell in results.cells))


def tuned_toml(search: Search, tuned: Tuned, prompts: Sequence[str]) -> str:
    """Return the lines that a study includes: the scales, and the prompts and seeds that its scores leave out."""
    steps, sampler = search.sampling.steps, search.sampling.sampler
    lines = [
        f"# Written by guidelens tune: {plural(len(prompts), 'prompt')}, {plural(search.seeds, 'seed')},"
        f" {steps} steps of {sampler}, judged by {tuned.column}.",
        f"# generator {search.generator}, guidance model {search.guidance}",
    ]
    for name, candidates in tuned.candidates.items():
        for each in candidates:
            mark = "  <- chosen" if each.scale == tuned.best[name] else ""
            lines.append(f"# {name} = {each.scale:g}: {each}{mark}")
    kept = {name: value for name, value in search.sampling.objective_scales.items() if name not in tuned.best}
    lines += [
        f"scales = {_toml(search.sampling.scale)}",
        f"objective_scales = {_toml({**kept, **tuned.best})}",
        "",
        "[search]   # left out of the scores of a study that includes this file",
        f"prompts = {_toml(list(prompts))}",
        f"seeds = {_toml(search.seed_list)}",
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write a value as TOML on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the one character that JSON leaves alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
