"""Facts of plain English prompts: what the rules find, and that they report what they do not understand."""

import pytest
from guidelens import Fact
from guidelens.prompts.english import parse_prompt
from guidelens.prompts.facts import plural_of, singular_of, statement

EXAMPLES = {
    "a red car": ["a car", "a red car"],
    "A red colored car.": ["a car", "a red car"],
    "two small green dogs": ["a dog", "a small dog", "a green dog", "two dogs"],
    "a red car to the left of two dogs": ["a car", "a dog", "a red car", "two dogs", "a car left of a dog"],
    "A traffic light underneath a giraffe.": [
        "a traffic light",
        "a giraffe",
        "a traffic light below a giraffe",
    ],
    "a green cup and a blue cell phone": ["a cup", "a cell phone", "a green cup", "a blue cell phone"],
    "One cat and three dogs sitting on the grass.": [
        "a cat",
        "a dog",
        "a grass",
        "one cat",
        "three dogs",
        "a dog sitting on a grass",
    ],
    "a horse riding an astronaut": ["a horse", "an astronaut", "a horse riding an astronaut"],
    "a wooden bench in front of a white house": [
        "a bench",
        "a house",
        "a wooden bench",
        "a white house",
        "a bench in front of a house",
    ],
    "a plate of cooked food": ["a plate", "a food", "a cooked food", "a plate of a food"],
    "a small yellow square": ["a square", "a small square", "a yellow square"],
    "an orange orange": ["an orange", "an orange orange"],
    "Three boats.": ["a boat", "three boats"],
}


@pytest.mark.parametrize("prompt", EXAMPLES)
def test_facts(prompt: str) -> None:
    found = parse_prompt(prompt)
    assert [statement(fact) for fact in found.facts] == EXAMPLES[prompt]
    assert found.rest == ()


def test_a_fact_needs_the_objects_it_speaks_of() -> None:
    found = parse_prompt("a red car to the left of two dogs").facts
    assert [fact.needs for fact in found] == [(), (), (0,), (1,), (0, 1)]
    assert found[0] == Fact("object", "car")


@pytest.mark.parametrize(
    ("prompt", "rest"),
    [
        ("a sign that says 'Hello World'", "says quoted-text"),
        ("a cat and no dogs", "no dogs"),
        ("a mechanical or electrical device", "a mechanical or electrical device"),
        ("a dog while it sleeps", "a dog while it sleeps"),
    ],
)
def test_what_is_not_understood_is_reported(prompt: str, rest: str) -> None:
    assert rest in parse_prompt(prompt).rest


@pytest.mark.parametrize(
    "noun", ["dog", "traffic light", "wine glass", "box", "baby", "knife", "bus", "person", "sheep"]
)
def test_singular_undoes_plural(noun: str) -> None:
    assert singular_of(plural_of(noun)) == noun
    assert singular_of(noun) == noun
