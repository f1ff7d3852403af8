"""Facts (:class:`guidelens.contracts.Fact`) as statements, as yes/no questions, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from guidelens.contracts import Fact, FactKind

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
_BACK = {many: one for one, many in _IRREGULAR.items() if one not in ("people",)}
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


def singular_of(noun: str) -> str:
    """Return the singular of a noun in either form: ``traffic lights``, ``wine glass``."""
    before, space, last = noun.rpartition(" ")
    if last in _BACK:
        return f"{before}{space}{_BACK[last]}"
    if not _looks_plural(last) or len(last) < 4:
        return noun
    if last.endswith("ies") and len(last) > 4:
        return f"{noun[:-3]}y"
    if last.endswith(("sses", "xes", "ches", "shes", "zes", "oes", "buses")):
        return noun[:-2]
    return noun[:-1]


def with_article(noun: str) -> str:
    """Return ``a car``, ``an orange cat``. A noun with an article, or one that looks plural, is not changed."""
    if noun.startswith(_ARTICLES) or _looks_plural(noun.split(" ")[-1]):
        return noun
    an = noun[:1] in "aeiou" and not noun.startswith(_AN_BUT_CONSONANT)
    return f"{'an' if an else 'a'} {noun}"


def _looks_plural(word: str) -> bool:
    return word == "people" or (word.endswith("s") and not word.endswith("ss") and word not in _SINGULAR)


def statement(fact: Fact) -> str:
    """Return a fact as a caption: ``a red car``, ``two dogs``, ``a cat left of a dog``.

    For a fact with a ``question`` and without a subject, return the question.
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
    """Return the fact's own question, or else a question made from its statement."""
    return fact.question or f"Does this picture show {statement(fact)}?"


def fact_values(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return facts as JSON values, without empty fields. :func:`facts_of` reads them."""
    names = [field.name for field in fields(Fact)]
    listed = [{name: getattr(fact, name) for name in names} for fact in facts]
    return [
        {name: list(value) if name == "needs" else value for name, value in values.items() if value}
        for values in listed
    ]


def facts_of(listed: Sequence[Any]) -> tuple[Fact, ...]:
    """Return the facts of one prompt from JSON values.

    :raises ValueError: for unknown fields or invalid values, a fact without a field that its kind needs, or a fact that
        needs itself or a position that does not exist. The message has the position of the fact.
    """
    facts = []
    for position, values in enumerate(listed):
        if not isinstance(values, Mapping):
            raise ValueError(f"fact {position} must be an object, not {values!r}")
        try:
            facts.append(_fact_of(values))
        except ValueError as error:
            raise ValueError(f"fact {position}: {error}") from None
        wrong = [i for i in facts[-1].needs if i >= len(listed) or i == position]
        if wrong:
            raise ValueError(
                f"fact {position}: needs {wrong[0]}, which is not another of the {len(listed)} facts"
            )
    return tuple(facts)


def _fact_of(values: Mapping[str, Any]) -> Fact:
    names = [field.name for field in fields(Fact)]
    if odd := sorted(set(values) - set(names)):
        raise ValueError(f"unknown field {odd[0]!r}; choose {', '.join(names)}")
    for name in set(values) - {"number", "needs"}:
        if not isinstance(values[name], str):
            raise ValueError(f"{name} must be text, not {values[name]!r}")
    if values.get("kind") not in get_args(FactKind):
        raise ValueError(f"unknown kind {values.get('kind')!r}; choose {', '.join(get_args(FactKind))}")
    number, needs = values.get("number", 0), values.get("needs", [])
    if type(number) is not int or number < 0:
        raise ValueError(f"number must be a whole number of at least 0, not {number!r}")
    if not isinstance(needs, list) or any(type(i) is not int or i < 0 for i in needs):
        raise ValueError(f"needs must be a list of positions, not {needs!r}")
    fact = Fact(**{**values, "needs": tuple(needs)})
    stated = {
        "object": bool(fact.subject),
        "attribute": bool(fact.subject and fact.value),
        "count": bool(fact.subject and fact.number),
        "relation": bool(fact.subject and fact.value and fact.object),
        "other": False,
    }
    if not fact.question and not stated[fact.kind]:
        raise ValueError(f"a fact of kind {fact.kind!r} without a question needs all of its fields")
    return fact


def number_of(word: str) -> int | None:
    """Return 3 for ``three`` and ``3``. Return None for text that is neither digits nor a number up to ten in words."""
    text = word.strip().lower()
    if text.isdecimal():
        return int(text)
    return NUMBERS.index(text) if text in NUMBERS else None
