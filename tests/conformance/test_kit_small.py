"""The kit on schedules, metrics and prompt sets: good ones pass, each broken promise fails its own check."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import guidelens.testing
import pytest
import torch
from guidelens.contracts import Column, Prompt
from guidelens.errors import UsageError
from guidelens.testing import (
    Check,
    ConformanceError,
    ConformanceReport,
    check_metric,
    check_prompt_set,
    check_schedule,
    examine,
)
from guidelens.testing import metric as metric_module
from guidelens.testing import prompts as prompts_module
from guidelens.testing import schedule as schedule_module

BROKEN: list[tuple[str, str, Callable[[], Any]]] = []


def breaks(kind: str, check: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def note(factory: Callable[[], Any]) -> Callable[[], Any]:
        BROKEN.append((kind, check, factory))
        return factory

    return note


# --- schedules ----------------------------------------------------------------------------------------------


class Says:
    """A schedule from a function of progress."""

    def __init__(self, answer: Callable[[float], Any]) -> None:
        self.weights = answer


def says(name: str, check: str, answer: Callable[[float], Any]) -> None:
    def factory() -> Says:
        return Says(answer)

    factory.__name__ = name
    breaks("schedule", check)(factory)


says("pairs", "weights", lambda p: [("itc", 1.0)])
says("nothing", "weights", lambda p: None)
says("nan_halfway", "weights", lambda p: {"itc": float("nan") if p == 0.5 else 1.0})
says("infinite_at_0", "weights", lambda p: {"itc": 1 / p if p else float("inf")})
says("divides_by_0", "weights", lambda p: {"itc": 1 / p})
says("fails_at_1", "weights", lambda p: {"itc": 1 / (1 - p)})
says("root_of_a_negative", "weights", lambda p: {"itc": (p - 0.3) ** 0.5})
says("a_bool", "weights", lambda p: {"itc": p > 0.5})
says("a_tensor", "weights", lambda p: {"itc": torch.tensor(p)})
says("a_text", "weights", lambda p: {"itc": "1.0"})
says("no_name", "weights", lambda p: {"": 1.0})
says("a_number_for_a_name", "weights", lambda p: {0: 1.0})
says("zero_throughout", "guides", lambda p: {"itc": 0.0, "cap": 0})
says("empty_throughout", "guides", lambda p: {})


@breaks("schedule", "pure")
class CountsItsCalls:
    calls = 0

    def weights(self, progress):
        self.calls += 1
        return {"itc": 1.0 / self.calls}


@breaks("schedule", "pure")
class RemembersTheLast:
    last = 0.0

    def weights(self, progress):
        change, self.last = progress - self.last, progress
        return {"itc": 1.0 + change}


@breaks("schedule", "pure")
class Rolls:
    def weights(self, progress):
        return {"itc": random.random()}


def test_good_schedules_pass() -> None:
    report = check_schedule(Says(lambda p: {"itc": p, "cap": 1 - p, "itm": 0}))
    assert report.ok
    assert report["weights"].numbers == {"points": 201}


# --- metrics ------------------------------------------------------------------------------------------------


RED = Column("red", "red less the mean of green and blue")
ABOVE = Column("above", "whether the upper half is the redder one", low=0.0, high=1.0)


class Redness:
    """How red a picture is, and whether its upper half is where the prompt says so."""

    columns: Any = (RED, ABOVE)

    def score_one(self, image, prompt):
        scores = {"red": float((image[0] - image[1:].mean(0)).mean())}
        if "above" in prompt.target:
            scores["above"] = float(image[0, : image.shape[1] // 2].mean() > image[0].mean())
        return scores

    def score(self, images, prompts):
        return [self.score_one(image, prompt) for image, prompt in zip(images, prompts, strict=True)]


@breaks("metric", "columns")
class ColumnsInAList(Redness):
    columns = [RED, ABOVE]  # noqa: RUF012


@breaks("metric", "columns")
class NoColumns(Redness):
    columns = ()


@breaks("metric", "columns")
class ColumnTwice(Redness):
    columns = (RED, ABOVE, RED)


@breaks("metric", "columns")
class ColumnIsANumber(Redness):
    columns = (RED, ABOVE, 3)


@breaks("metric", "columns")
class ColumnIsAName(Redness):
    columns = ("red", "above")


@breaks("metric", "columns")
class ColumnWithoutAMeaning(Redness):
    columns = (Column("red", " "), ABOVE)


@breaks("metric", "columns")
class ColumnWithoutARange(Redness):
    columns = (Column("red", "how red", low=1.0, high=-1.0), ABOVE)


@breaks("metric", "columns")
class MisspeltRole(Redness):
    columns = (Column("red", "how red", "alignement"), ABOVE)


@breaks("metric", "range")
class ScoreOutOfRange(Redness):
    columns = (Column("red", "how red", low=0.5, high=1.0), ABOVE)


@breaks("metric", "scores")
class UnknownColumn(Redness):
    columns = (RED,)


@breaks("metric", "scores")
class TensorScore(Redness):
    def score_one(self, image, prompt):
        return {"red": image.mean()}


@breaks("metric", "scores")
class NanScore(Redness):
    def score_one(self, image, prompt):
        return {"red": float("nan") if image.std() == 0 else 1.0}


@breaks("metric", "scores")
class OneScoreForAll(Redness):
    def score(self, images, prompts):
        return super().score(images, prompts)[:1]


@breaks("metric", "scores")
class DictOfColumns(Redness):
    def score(self, images, prompts):
        return {"red": [0.0] * len(images)}


@breaks("metric", "scores")
class ScoresNothing(Redness):
    def score_one(self, image, prompt):
        return {}


@breaks("metric", "scores")
class FailsOnFlatPictures(Redness):
    def score_one(self, image, prompt):
        return {"red": 1 / float(image.std())}


@breaks("metric", "none-left-out")
class LeavesOutFlatPictures(Redness):
    def score_one(self, image, prompt):
        scores = super().score_one(image, prompt)
        return {"red": scores["red"], **({"above": 0.0} if image.std() > 0 else {})}


@breaks("metric", "bad-is-low")
class Greenness(Redness):
    def score_one(self, image, prompt):
        return {"red": -super().score_one(image, prompt)["red"]}


@breaks("metric", "bad-is-low")
class TheSameForAll(Redness):
    def score_one(self, image, prompt):
        return {"red": 0.5}


@breaks("metric", "batch-independence")
class RankInTheBatch(Redness):
    def score(self, images, prompts):
        rows = super().score(images, prompts)
        values = sorted(row["red"] for row in rows)
        return [{"red": values.index(row["red"]) / len(values)} for row in rows]


@breaks("metric", "batch-independence")
class PlaceInTheBatch(Redness):
    def score(self, images, prompts):
        return [{"red": row["red"] + k / 1000} for k, row in enumerate(super().score(images, prompts))]


@breaks("metric", "determinism")
class Jitters(Redness):
    def score_one(self, image, prompt):
        return {"red": super().score_one(image, prompt)["red"] + 0.01 * float(torch.rand(()))}


@breaks("metric", "images-untouched")
class ClampsInPlace(Redness):
    def score(self, images, prompts):
        images.clamp_(-0.9, 0.9)
        return super().score(images, prompts)


def _example() -> tuple[torch.Tensor, Prompt]:
    red = torch.full((3, 16, 16), -1.0)
    red[0, :8] = 1.0
    return red, Prompt("a red dot above nothing")


def test_good_metrics_pass() -> None:
    assert [c.name for c in check_metric(Redness()).skipped] == ["bad-is-low"]
    report = check_metric(Redness(), examples=[_example()])
    assert not report.skipped
    assert report["bad-is-low"].numbers["above"] == pytest.approx(1 - 1 / 5)  # noise has it by chance


def test_a_column_may_be_better_when_it_is_lower() -> None:
    with pytest.raises(ConformanceError, match="'red' is -1 for the examples, and"):
        check_metric(Greenness(), examples=[_example()])
    less = Greenness()
    less.columns = (Column("red", "how red", higher_is_better=False), ABOVE)
    assert check_metric(less, examples=[_example()]).ok


def test_metrics_are_shown_what_was_given() -> None:
    seen: list[Any] = []

    class Sees(Redness):
        def score(self, images, prompts):
            seen.extend((tuple(images.shape[1:]), prompt.text) for prompt in prompts)
            return super().score(images, prompts)

    check_metric(Sees(), prompts=[Prompt("one")], image_shape=(3, 5, 7))
    assert set(seen) == {((3, 5, 7), "one")}


# --- prompt sets --------------------------------------------------------------------------------------------


def prompt_set(name: str, check: str, *entries: Any) -> None:
    def factory() -> Any:
        return list(entries)

    factory.__name__ = name
    breaks("prompts", check)(factory)


prompt_set("nothing", "sequence")
prompt_set("texts", "prompts", Prompt("a"), "b")
prompt_set("blank", "prompts", Prompt("a"), Prompt("  "))
prompt_set("no_category", "prompts", Prompt("a", None))  # type: ignore[arg-type]
prompt_set("blank_reference", "prompts", Prompt("a", reference=""))


@breaks("prompts", "sequence")
class ReadOnce:
    def __init__(self) -> None:
        self.entries = iter([Prompt("a"), Prompt("b")])

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return [Prompt("a"), Prompt("b")][index]

    def __iter__(self):
        return self.entries


@breaks("prompts", "sequence")
class Shuffles:
    entries = tuple(Prompt(str(k)) for k in range(20))

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.entries[index]

    def __iter__(self):
        return iter(random.sample(self.entries, 20))


def test_good_prompt_sets_pass() -> None:
    assert check_prompt_set([Prompt("a"), Prompt("b", "typo", "c")]).ok
    assert check_prompt_set((Prompt("a"),)).ok


# --- all of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "check", "factory"), BROKEN, ids=[f"{k}-{f.__name__}" for k, _, f in BROKEN]
)
def test_a_broken_promise_fails_its_check_alone(kind: str, check: str, factory: Callable[[], Any]) -> None:
    options = {"examples": [_example()]} if check == "bad-is-low" else {}
    report = examine(kind, factory(), **options)
    assert [c.name for c in report.failures] == [check], [(c.name, c.detail) for c in report.failures]
    assert report[check].detail


@pytest.mark.parametrize(
    ("kind", "module"),
    [("schedule", schedule_module), ("metric", metric_module), ("prompts", prompts_module)],
)
def test_every_check_can_fail(kind: str, module: Any) -> None:
    assert {check for of, check, _ in BROKEN if of == kind} == set(module.CHECKS.about)


def test_the_error_lists_every_failure_with_its_numbers() -> None:
    class Both(Redness):
        columns = (Column("red", "how red", high=1.0), ABOVE)
        calls = 0.0

        def score(self, images, prompts):
            self.calls += 1
            return [{**row, "red": self.calls} for row in super().score(images, prompts)]

    with pytest.raises(ConformanceError) as caught:
        check_metric(Both())
    lines = str(caught.value).splitlines()
    assert lines[0] == "Both breaks the contract of its kind:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["determinism", "range"]
    assert "'red' of 'a red circle' is 3.0 and 4.0: at first and again" in lines[1]
    assert caught.value.report.failures[0].name == "determinism"
    assert isinstance(caught.value, AssertionError)


def test_what_a_component_raises_is_told_and_kept() -> None:
    report = examine("schedule", Says(lambda p: {"itc": 1 / p}))
    assert report["weights"].detail == "raised ZeroDivisionError: float division by zero"
    with pytest.raises(ConformanceError) as caught:
        report.raise_for_failures()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_report_is_read_by_name_and_as_json() -> None:
    report = ConformanceReport(
        "schedule", "x", (Check("a", "it is", "passed", "n 1", {"n": 1}), Check("b", "", "failed"))
    )
    assert report["a"].numbers == {"n": 1}
    with pytest.raises(KeyError, match="no check 'c'; there are a, b"):
        report["c"]
    found = report.to_json()
    assert (found["ok"], found["kind"], found["component"]) == (False, "schedule", "x")
    assert found["checks"][0] == {
        "name": "a",
        "about": "it is",
        "status": "passed",
        "detail": "n 1",
        "numbers": {"n": 1},
    }


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(UsageError, match="unknown kind of component 'model'; choose generator, guidance"):
        examine("model", object())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = guidelens.testing.nothing
