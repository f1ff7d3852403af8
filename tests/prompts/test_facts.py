"""Facts as captions, questions and JSON; facts follow a prompt through perturbation and into results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from guidelens import Fact, Prompt
from guidelens.prompts import fact_values, facts_of, perturb_prompts
from guidelens.prompts.facts import number_of, plural_of, question, statement
from guidelens.runs.config import Cell, canonical_json
from guidelens.studies.prompts import perturbed
from guidelens.testing import check_prompt_set

EXAMPLES = [
    (Fact("object", "car"), "a car"),
    (Fact("object", "orange"), "an orange"),
    (Fact("object", "unicorn"), "a unicorn"),
    (Fact("object", "scissors"), "scissors"),
    (Fact("object", "bus"), "a bus"),
    (Fact("attribute", "car", "red"), "a red car"),
    (Fact("attribute", "dog", "orange"), "an orange dog"),
    (Fact("count", "traffic light", number=3), "three traffic lights"),
    (Fact("count", "wine glass", number=2), "two wine glasses"),
    (Fact("count", "person", number=1), "one person"),
    (Fact("count", "sheep", number=12), "12 sheep"),
    (Fact("relation", "cat", "left of", "apple"), "a cat left of an apple"),
    (Fact("other", question="Is this an oil painting?"), "Is this an oil painting?"),
]


@pytest.mark.parametrize(("fact", "wanted"), EXAMPLES, ids=[wanted for _, wanted in EXAMPLES])
def test_statement(fact: Fact, wanted: str) -> None:
    assert statement(fact) == wanted


def test_question_is_the_facts_own_or_made_from_the_statement() -> None:
    assert question(Fact("object", "car")) == "Does this picture show a car?"
    assert question(Fact("object", "car", question="Is there a car?")) == "Is there a car?"


@pytest.mark.parametrize(
    ("noun", "wanted"),
    [("dog", "dogs"), ("baby", "babies"), ("toy", "toys"), ("knife", "knives"), ("bench", "benches")],
)
def test_plural(noun: str, wanted: str) -> None:
    assert plural_of(noun) == wanted


def test_perturbed_prompts_keep_the_facts_of_the_clean_one() -> None:
    facts = (Fact("object", "motorcycle"), Fact("attribute", "motorcycle", "purple"))
    prompts, _ = perturb_prompts([Prompt("a purple motorcycle", facts=facts)], ["typo:edits=1"])
    perturbed = [prompt for prompt in prompts if prompt.text != "a purple motorcycle"]
    assert perturbed
    assert all(prompt.facts == facts for prompt in perturbed)


FACTS = (
    Fact("object", "orange"),
    Fact("count", "orange", number=3, needs=(0,)),
    Fact("relation", "orange", "left of", "dog", needs=(0, 1)),
    Fact("other", question="Is this a photo?"),
)


def test_facts_survive_json() -> None:
    listed = fact_values(FACTS)
    assert facts_of(listed) == FACTS
    assert listed[0] == {"kind": "object", "subject": "orange"}
    canonical_json(listed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "colour", "subject": "dog"}, "fact 0: unknown kind 'colour'; choose object"),
        ({"kind": "object"}, "of kind 'object' without a question needs all"),
        ({"kind": "count", "subject": "dog"}, "of kind 'count' without a question"),
        ({"kind": "relation", "subject": "dog", "value": "left of"}, "of kind 'relation' without"),
        ({"kind": "object", "subject": "dog", "colour": "red"}, "unknown field 'colour'"),
        ({"kind": "count", "subject": "dog", "number": True}, "number must be a whole number"),
        ({"kind": "object", "subject": "dog", "needs": [0]}, "fact 0: needs 0, which is not another"),
        ({"kind": "object", "subject": "dog", "needs": [3]}, "fact 0: needs 3"),
        ({"kind": "object", "subject": "dog", "needs": 3}, "needs must be a list"),
        ({"kind": "object", "subject": 3}, "subject must be text"),
        ("a dog", "fact 0 must be an object"),
    ],
)
def test_mistakes_in_json_are_named(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        facts_of([values])


def test_numbers() -> None:
    assert [number_of(word) for word in ("Seven", " 12 ", "many", "")] == [7, 12, None, None]


def test_perturbed_prompts_keep_foil_and_picture() -> None:
    clean = Prompt("three blue oranges", "counting", facts=FACTS, foil="two blue oranges", picture="a.jpg")
    changed = perturb_prompts([clean], ["typo"])[0][1]
    assert changed.text != clean.text
    assert replace(changed, text=clean.text, reference=None) == clean
    assert perturbed([clean], "typo", 0, None)[0].prompt == changed


def test_facts_are_part_of_the_key() -> None:
    class Table:
        by_objective = None

    class Schedule:
        name = "s"

        def table(self, steps: int) -> Table:
            return Table()

    class Settings:
        steps = 1

        def identity(self) -> dict[str, object]:
            return {}

    plain = Cell(Prompt("three blue oranges"), Schedule(), 0)  # type: ignore[arg-type]
    stated = replace(plain, prompt=replace(plain.prompt, facts=FACTS))
    assert "facts" not in plain.resolved(Settings())  # type: ignore[arg-type]
    assert stated.key(Settings()) != plain.key(Settings())  # type: ignore[arg-type]


def test_the_conformance_kit_checks_facts() -> None:
    good = Prompt("three blue oranges", facts=FACTS, foil="two", picture="a.jpg")
    check_prompt_set([good])
    for wrong in (
        replace(good, facts=({"kind": "object"},)),  # type: ignore[arg-type]
        replace(good, foil=" "),
        replace(good, facts=(Fact("object", "dog", needs=(7,)),)),
    ):
        with pytest.raises(AssertionError, match="prompt 0 has"):
            check_prompt_set([wrong])
