"""What the files of a run may hold: rows, failures, members of a study and ``config.json``, checked when they are read.

Received files are data, not trusted: types, finiteness, ranges, nesting and length of numbers are checked, and the
names of files in them have one form, so that no path leads out of the run's directory.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, TypedDict

from guidelens.contracts import LARGEST
from guidelens.errors import UsageError
from guidelens.prompts import facts_of
from guidelens.runs.config import KEY_LENGTH, sampling_of
from guidelens.sampling import options

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Key = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{KEY_LENGTH}}}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TelemetryFile = Annotated[str, Field(pattern=r"^telemetry/[0-9a-f]{20}\.npz$")]
Numbers = dict[str, Number]
Texts = dict[str, str]


def _check_facts(listed: list[Any]) -> list[Any]:
    facts_of(listed)
    return listed


Facts = Annotated[list[Any], AfterValidator(_check_facts)]
"""The facts of a prompt, see :class:`guidelens.Fact`."""


def _own_picture(row: Any) -> Any:
    if row["image"] != f"samples/{row['key']}.png":
        raise ValueError(f"image must be samples/{row['key']}.png")
    return row


@with_config(_STRICT)
class Versions(TypedDict):
    """The versions of what drew a picture; those of plugins by their names."""

    python: str
    guidelens: str
    torch: str
    numpy: str
    plugins: Texts


@with_config(_STRICT)
class Sha256(TypedDict):
    """Hashes of the files that belong to a row."""

    image: Digest
    telemetry: Digest


@with_config(_STRICT)
class Question(TypedDict):
    """A question of a metric, see :class:`guidelens.QuestionScore`."""

    text: str
    score: Number
    by: NotRequired[str]
    holds: NotRequired[bool]


@with_config(_STRICT)
class Row(TypedDict):
    """A row of ``results.jsonl``; docs/outputs.md describes the keys."""

    key: Key
    prompt: str
    category: str
    reference: str | None
    facts: NotRequired[Facts]
    schedule: str
    seed: Seed
    generator: str
    guidance: str
    steps: Positive
    sampler: str
    scale: Finite
    image: str
    metrics: Numbers
    metric_errors: Texts
    scored: list[str]
    scorers: NotRequired[Texts]
    questions: NotRequired[dict[str, list[Question]]]
    losses: Numbers
    gradient_norms: Numbers
    cosines: Numbers
    conflicts: Numbers
    nonfinite_steps: Count
    seconds: Number
    telemetry: TelemetryFile
    sha256: NotRequired[Sha256]
    versions: Versions
    threads: Positive
    device: str


@with_config(_STRICT)
class Failed(TypedDict):
    """A row of ``failures.jsonl``."""

    key: Key
    reason: str
    error: str
    prompt: str
    schedule: str
    seed: Seed
    steps: Positive


@with_config(_STRICT)
class Member(TypedDict):
    """A row of ``cells.jsonl``: a cell in a grid of a study; docs/studies.md describes the keys."""

    grid: str
    generator: str
    guidance: str
    preset: str
    sampler: str
    eta: Finite
    steps: Positive
    respacing: str
    scale: Finite
    options: dict[str, bool | int | Finite | str | dict[str, Finite] | None]
    prompt: str
    category: str
    perturbation: str
    schedule: str
    seed: Seed
    key: Key
    settings: str
    pair: str
    clean: str
    reference: str | None
    facts: NotRequired[Facts]
    edits: Count
    objective_scales: dict[str, Finite]
    notes: list[str]


@with_config(_STRICT)
class Model(TypedDict):
    """A model of a run."""

    name: str
    fingerprint: str


def _sampling(settings: Any) -> Any:
    try:
        sampling_of(settings)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return settings


_OPTIONS: dict[str, Any] = {each.name: Any for each in options()}
_Settings: Any = with_config(_STRICT)(
    TypedDict(  # type: ignore[operator]  # its keys are the options of the sampling
        "_Settings",
        {
            "generator": Model,
            "guidance": Model,
            "image_shape": Annotated[list[Positive], Field(min_length=3, max_length=3)],
            **_OPTIONS,
        },
    )
)
Settings = Annotated[_Settings, AfterValidator(_sampling)]
"""Settings as :meth:`guidelens.runs.config.RunSettings.as_dict` records them."""


@with_config(_STRICT)
class ColumnRecord(TypedDict):
    """What a metric declares of a column; see :class:`guidelens.Column`."""

    name: str
    meaning: str
    role: str
    low: Finite | None
    high: Finite | None
    higher_is_better: bool
    looks: NotRequired[str]


@with_config(_STRICT)
class MetricRecord(TypedDict):
    """A metric and its columns."""

    name: str
    columns: list[ColumnRecord]


@with_config(_STRICT)
class ScheduleRecord(TypedDict):
    """A schedule as a table: the weight of each objective at each step."""

    name: str
    steps: NotRequired[Positive]
    weights: dict[str, list[Finite]]


@with_config(_STRICT)
class PromptRecord(TypedDict):
    """A prompt of a comparison."""

    text: str
    category: str
    reference: str | None
    facts: NotRequired[Facts]


@with_config(_STRICT)
class PerturbedRecord(TypedDict):
    """The origin of a perturbed prompt."""

    text: str
    reference: str | None
    clean: str
    perturbation: str
    edits: Count


@with_config(_STRICT)
class NoteRecord(TypedDict):
    """What the text encoder said of a prompt."""

    prompt: str
    note: str


@with_config(_STRICT)
class StudyRecord(TypedDict):
    """The study file of a directory, as it was when the study last ran."""

    name: str
    summary: str
    label: str
    base: str
    text: str
    included: NotRequired[Texts]
    overrides: Texts


@with_config(_STRICT)
class GridRecord(TypedDict):
    """A grid of a study."""

    name: str
    summary: str
    claims: list[str]
    cells: Count


class _Run(TypedDict):
    guidelens_format: int
    schedules: list[ScheduleRecord]
    metrics: list[MetricRecord]
    device: str
    batch_size: Positive
    commands: list[str]
    versions: Versions
    batches: list[list[Key]]


@with_config(_STRICT)
class ComparisonConfig(_Run):
    """``config.json`` of a comparison."""

    settings: Settings
    prompts: list[PromptRecord]
    perturbed: list[PerturbedRecord]
    notes: list[NoteRecord]
    seeds: list[Seed]
    plugins: list[str] | None


@with_config(_STRICT)
class StudyConfig(_Run):
    """``config.json`` of a study."""

    kind: Literal["study"]
    study: StudyRecord
    grids: list[GridRecord]
    notes: NotRequired[list[NoteRecord]]
    settings: dict[str, Settings]
    snapshots: list[Annotated[float, Field(ge=0, le=1)]]
    plugins: list[str]


def _same_length(config: Any) -> Any:
    """Refuse schedules whose tables are not as long as they say: a comparison has one number of steps."""
    for schedule in config["schedules"]:
        lengths = {len(values) for values in schedule["weights"].values()}
        if len(lengths | ({schedule["steps"]} if "steps" in schedule else set())) > 1:
            raise ValueError(f"schedule {schedule['name']!r} has weights for different numbers of steps")
    return config


ROW: TypeAdapter[Any] = TypeAdapter(Annotated[Row, AfterValidator(_own_picture)])
FAILED: TypeAdapter[Any] = TypeAdapter(Failed)
MEMBER: TypeAdapter[Any] = TypeAdapter(Member)
COMPARISON_CONFIG: TypeAdapter[Any] = TypeAdapter(Annotated[ComparisonConfig, AfterValidator(_same_length)])
STUDY_CONFIG: TypeAdapter[Any] = TypeAdapter(Annotated[StudyConfig, AfterValidator(_same_length)])


SHOWN = 40
"""Characters of a wrong value that a message quotes."""


_BOUNDS = {
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
    "greater_than": "more than",
    "less_than": "less than",
}


def explain(error: ValidationError) -> str:
    """Return the first fault in words: where, what was expected, and what is there."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    kind, said, limits = fault["type"], fault["msg"], fault.get("ctx", {})
    if kind == "missing":
        return f"the key {where!r} is missing"
    if kind == "extra_forbidden":
        return f"there is no key {where!r}"
    if kind == "json_invalid":
        return said.replace("Invalid JSON", "not JSON")
    if kind == "value_error":
        said = str(limits["error"])
        return f"{where}: {said}" if where else said
    if kind == "string_pattern_mismatch":
        said = f"expected the form {limits['pattern']}"
    elif kind in _BOUNDS:
        said = f"expected {_BOUNDS[kind]} {float(*limits.values()):g}"
    said = said.replace("Input should be", "expected").replace("Input", "it")
    return (
        f"{where}: {said}, not {shortened(fault['input'])}"
        if where
        else f"{said}, not {shortened(fault['input'])}"
    )


def shortened(value: object) -> str:
    """Return how a message quotes a value, at most :data:`SHOWN` characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
