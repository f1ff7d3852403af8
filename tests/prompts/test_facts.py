"""Facts as captions and questions; facts follow a prompt through perturbation."""

import pytest
from guidelens import Fact, Prompt
from guidelens.prompts import perturb_prompts
from guidelens.prompts.facts import plural_of, question, statement

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
