"""Read and validate files of answers from offline pages, Label Studio and MTurk."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from guidelens.errors import UsageError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from . import wording
from .store import StoredItem, SurveyFile

_YEAR = 366 * 86400
Seconds = Annotated[float, Field(ge=0, le=_YEAR, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class RaterAnswers:
    """One rater's answers to one item, by question.

    :param rater: the code of a rater of this survey (offline), or the platform's name for the rater.
    """

    rater: str
    item: StoredItem
    answers: Mapping[str, int]
    seconds: float | None


class _StrictModel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class OfflineAnswer(_StrictModel):
    """The answers to a screen of an offline page."""

    item: Number
    answers: dict[str, Number]
    seconds: Seconds


class OfflineFile(_StrictModel):
    """The file that an offline page saves."""

    survey: str
    code: Name
    answers: list[OfflineAnswer]


class TaskData(_StrictModel):
    """Data of a Label Studio task, as our export wrote it."""

    survey: str
    item: Number


class Annotator(_StrictModel):
    """An annotator of Label Studio, if the export has more than an id."""

    id: Number


class Annotation(_StrictModel):
    """One annotator's result. Parts other than choices are ignored."""

    completed_by: Number | Name | Annotator
    result: list[dict[str, Any]]
    lead_time: Seconds | None = None
    was_cancelled: bool = False


class Task(_StrictModel):
    """A task of Label Studio's JSON export."""

    data: TaskData
    annotations: list[Annotation]


class Choice(_StrictModel):
    """The choice of one label."""

    choices: Annotated[list[str], Field(min_length=1, max_length=1)]


class Choices(_StrictModel):
    """A part of an annotation's result."""

    from_name: str
    value: Choice


class Assignment(BaseModel):
    """A row of MTurk's batch results. Its cells are text."""

    survey: str = Field(alias="Input.survey")
    item: Number = Field(alias="Input.item")
    worker: Name = Field(alias="WorkerId")
    seconds: Seconds | None = Field(None, alias="WorkTimeInSeconds")
    status: str = Field("", alias="AssignmentStatus")


def read_answers(survey: SurveyFile, form: str, text: str) -> list[RaterAnswers]:
    """Read and check a file of answers.

    :raises UsageError: the file is of another survey or format, or an item does not have an answer.
    """
    items = {item.id: item for item in survey.items()}
    try:
        found = [
            RaterAnswers(rater, _item(items, number), given, seconds)
            for rater, number, given, seconds in READERS[form](survey, items, text)
        ]
    except ValidationError as error:
        raise UsageError(f"not answers in the format {form}: {_first(error)}") from error
    except csv.Error as error:
        raise UsageError(f"not answers in the format {form}: {error}") from error
    for given in found:
        try:
            survey.check(given.item, given.answers)
        except UsageError as error:
            raise UsageError(f"item {given.item.id}: {error}") from error
    return found


_Answers = Iterator[tuple[str, int, dict[str, int], float | None]]
"""Rater, item id, question -> answer, seconds."""
_Items = Mapping[int, StoredItem]


def _offline(survey: SurveyFile, items: _Items, text: str) -> _Answers:
    content = OfflineFile.model_validate_json(text)
    _check_survey(survey, content.survey)
    rater = survey.rater(content.code)
    if rater is None:
        raise UsageError(f"no rater of this survey has the code {content.code!r}")
    mine = {item.id for item in items.values() if item.seat == rater.seat}
    for answer in content.answers:
        if answer.item not in mine:
            raise UsageError(f"the item {answer.item} is not this rater's")
        yield rater.code, answer.item, answer.answers, answer.seconds


def _label_studio(survey: SurveyFile, items: _Items, text: str) -> _Answers:
    for task in TypeAdapter(list[Task]).validate_json(text):
        _check_survey(survey, task.data.survey)
        places = len(_item(items, task.data.item).shown)
        values = {label: value for value, label in wording.choices(survey.kind, places)}
        for annotation in task.annotations:
            if not annotation.was_cancelled:
                who = annotation.completed_by
                name = str(who.id if isinstance(who, Annotator) else who)
                given = dict(_chosen(annotation, values, task.data.item))
                yield name, task.data.item, given, annotation.lead_time


def _chosen(annotation: Annotation, values: Mapping[str, int], item: int) -> Iterator[tuple[str, int]]:
    for part in annotation.result:
        if part.get("type") == "choices":
            found = Choices.model_validate(part)
            (label,) = found.value.choices
            if label not in values:
                raise UsageError(f"item {item}: {label!r} is not one of {', '.join(values)}")
            yield found.from_name, values[label]


def _mturk(survey: SurveyFile, items: _Items, text: str) -> _Answers:
    table = csv.DictReader(io.StringIO(text))
    missing = {"Input.survey", "Input.item", "WorkerId"} - set(table.fieldnames or ())
    if missing:
        raise UsageError(f"not answers in the format mturk: it has no column {', '.join(sorted(missing))}")
    for number, cells in enumerate(table, 2):
        row = {name: value for name, value in cells.items() if isinstance(name, str) and value}
        if row.get("AssignmentStatus") == "Rejected":
            continue
        assignment = Assignment.model_validate(row)
        _check_survey(survey, assignment.survey)
        given = {
            question.name: _mturk_answer(row, question.name, f"row {number}") for question in survey.questions
        }
        yield assignment.worker, assignment.item, given, assignment.seconds


def _mturk_answer(row: Mapping[str, str], name: str, where: str) -> int:
    """Return an answer from ``Answer.NAME``, or from the one column ``Answer.NAME.VALUE`` that is true."""
    head = f"Answer.{name}."
    ticked = [c.removeprefix(head) for c, v in row.items() if c.startswith(head) and v.lower() == "true"]
    texts = [row[head[:-1]]] if head[:-1] in row else ticked
    if len(texts) != 1:
        count = "no answer" if not texts else f"{len(texts)} answers"
        raise UsageError(
            f"{where}: {count} to the question {name!r}; reject the assignment or take out the row"
        )
    if not (texts[0].isascii() and texts[0].isdecimal() and len(texts[0]) < 6):
        raise UsageError(f"{where}: {texts[0]!r} is not an answer to the question {name!r}")
    return int(texts[0])


READERS: dict[str, Callable[[SurveyFile, _Items, str], _Answers]] = {
    "offline": _offline,
    "label-studio": _label_studio,
    "mturk": _mturk,
}
"""Format -> its reader."""


def _check_survey(survey: SurveyFile, name: str) -> None:
    if name != survey.meta["id"]:
        raise UsageError("these are answers to another survey")


def _item(items: _Items, number: int) -> StoredItem:
    if number not in items:
        raise UsageError(f"this survey has no item {number}")
    return items[number]


def _first(error: ValidationError) -> str:
    """Return the first problem in one line: place, problem and value."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    value = "" if problem["type"] in ("missing", "json_invalid") else f", got {str(problem['input'])[:60]!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg']}{value}{more}".removeprefix(": ")
