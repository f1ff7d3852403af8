"""Facts (:class:`guidelens.contracts.Fact`) as statements and as yes/no questions."""

from __future__ import annotations

from guidelens.contracts import Fact

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_IRREGULAR = {
    "bus": "buses",
    "child": "children",
    "deer": "deer",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "people": "people",
    "person": "people",
    "scissors": "scissors",
    "sheep": "sheep",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
_ENDINGS = (("ss", "sses"), ("x", "xes"), ("ch", "ches"), ("sh", "shes"), ("z", "zes"), ("s", "s"))
_SINGULAR = ("bus", "lens", "octopus", "cactus", "canvas", "gas")
_AN_BUT_CONSONANT = ("one", "uni", "use", "eur")
_ARTICLES = ("a ", "an ", "the ", "some ")


def plural_of(noun: str) -> str:
    """Return the plural of a noun: ``traffic lights``. A noun that already ends in s keeps its form."""
    before, space, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        return f"{before}{space}{_IRREGULAR[last]}"
    for ending, replacement in _ENDINGS:
        if last.endswith(ending):
            return f"{noun[: -len(ending)]}{replacement}"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def with_article(noun: str) -> str:
    """Return ``a car``, ``an orange cat``. A noun that has an article or looks plural stays as it is."""
    if noun.startswith(_ARTICLES) or _looks_plural(noun.split(" ")[-1]):
        return noun
    an = noun[:1] in "aeiou" and not noun.startswith(_AN_BUT_CONSONANT)
    return f"{'an' if an else 'a'} {noun}"


def _looks_plural(word: str) -> bool:
    return word == "people" or (word.endswith("s") and not word.endswith("ss") and word not in _SINGULAR)


def statement(fact: Fact) -> str:
    """Return what a fact claims, as a caption: ``a red car``, ``two dogs``, ``a cat left of a dog``.

    A fact with a ``question`` and no subject gives the question.
    """
    if fact.kind == "other" or not fact.subject:
        return fact.question
    if fact.kind == "attribute":
        return with_article(f"{fact.value} {fact.subject}")
    if fact.kind == "count":
        if fact.number == 1:
            return f"one {fact.subject}"
        number = NUMBERS[fact.number] if fact.number < len(NUMBERS) else str(fact.number)
        return f"{number} {plural_of(fact.subject)}"
    if fact.kind == "relation":
        return f"{with_article(fact.subject)} {fact.value} {with_article(fact.object)}"
    return with_article(fact.subject)


def question(fact: Fact) -> str:
    """Return the fact's own question, or else one that is made from its statement."""
    return fact.question or f"Does this picture show {statement(fact)}?"
