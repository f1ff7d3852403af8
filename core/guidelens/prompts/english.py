"""Extract facts from plain English prompts by rules, such as "a red car to the left of two dogs".

The grammar covers the simple categories of DrawBench: noun phrases (article or number, adjectives, a noun of one or two
words) joined by "and", commas, prepositions and verbs. Parts that do not fit are reported; the parser does not guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guidelens.contracts import Fact

from .facts import NUMBERS, singular_of
from .words import (
    ADJECTIVES,
    ALSO_NOUNS,
    COLOURS,
    LINKS,
    MATERIALS,
    PARTICIPLES,
    RELATIONS,
    SKIPPED,
    STOPS,
    word_set,
)

_WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[,.;:!?\"]")
_DETERMINERS = word_set("a an the some his her its their my your another each")
_ADJECTIVE_ENDINGS = ("ful", "ous", "less", "ish", "ed", "shaped")
_LONGEST_NOUN = 2


@dataclass(frozen=True)
class ParsedPrompt:
    """The result of parsing a prompt.

    :param facts: the assertions of the prompt, objects first, in the order in which they are mentioned.
    :param rest: the parts that were not understood; empty if everything was understood.
    """

    facts: tuple[Fact, ...]
    rest: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase: ``two small green dogs``."""

    noun: str
    attributes: tuple[str, ...]
    number: int


@dataclass(frozen=True)
class _Link:
    """The link between two noun phrases: a relation, or only a separator such as "and"."""

    relation: str


def parse_prompt(text: str) -> ParsedPrompt:
    """Return the facts of an English prompt, and the parts that were not understood.

    Example: ``a red car left of two dogs`` gives the objects car and dog, the attribute red, the count two and the
    relation ``left of``.
    """
    phrases: list[_Phrase] = []
    relations: list[tuple[int, str, int]] = []
    rest: list[str] = []
    for sentence in _sentences(text):
        _read_sentence(sentence, phrases, relations, rest)
    return ParsedPrompt(tuple(_facts(phrases, relations)), tuple(rest))


def _sentences(text: str) -> Iterator[list[str]]:
    """Yield the words of each sentence, commas included. Quoted text is one unknown word."""
    quoted = re.sub(r"(['\"“‘])(?=\w)[^'\"”’]{2,}['\"”’](?!\w)", " quoted-text ", text)
    words = _WORD.findall(quoted.lower().replace("’", "'"))
    sentence: list[str] = []
    for word in words:
        if word in ".;:!?":
            if sentence:
                yield sentence
            sentence = []
        elif word != '"':
            sentence.append(word)
    if sentence:
        yield sentence


def _read_sentence(
    words: Sequence[str],
    phrases: list[_Phrase],
    relations: list[tuple[int, str, int]],
    rest: list[str],
) -> None:
    """Add the phrases and relations of a sentence to the lists."""
    before: int | None = None  # position of the phrase that a relation would start from
    relation = ""
    for part in _parts(words):
        if isinstance(part, _Link):
            relation = f"{relation} {part.relation}".strip()
            continue
        phrase = _phrase(part)
        if phrase is None:
            rest.append(" ".join(part))
            before, relation = None, ""
            continue
        phrases.append(phrase)
        here = len(phrases) - 1
        if relation and before is not None:
            relations.append((before, relation, here))
        before, relation = here, ""
    if relation:
        rest.append(relation)


def _parts(words: Sequence[str]) -> Iterator[list[str] | _Link]:
    """Split a sentence into the words of noun phrases and the links between them."""
    chunk: list[str] = []
    position = 0
    while position < len(words):
        link, length = _link_at(words, position, bool(chunk))
        if not length:
            chunk.append(words[position])
            position += 1
            continue
        if chunk:
            yield chunk
            chunk = []
        if link is not None:
            yield _Link(link)
        position += length
    if chunk:
        yield chunk


def _link_at(words: Sequence[str], position: int, after_noun: bool) -> tuple[str | None, int]:
    """Return the relation that begins here (None: a separator), and its number of words (0: neither begins here)."""
    for relation, written in RELATIONS:
        if tuple(words[position : position + len(written)]) == written:
            return relation, len(written)
    word = words[position]
    if word in SKIPPED:
        return None, 1
    if word in LINKS or (after_noun and word in PARTICIPLES):
        return word, 1
    if after_noun and word.endswith("ing") and len(word) > 5 and word not in STOPS:
        following = words[position + 1 : position + 2]
        ends = not following or following[0] in SKIPPED
        return (None, 0) if ends else (word, 1)
    return None, 0


def _phrase(words: Sequence[str]) -> _Phrase | None:
    """Return a noun phrase, or None if the words do not form one."""
    left = [word for word in words if word not in ("colored", "coloured", "color", "very")]
    number = 0
    while left and (left[0] in _DETERMINERS or _number(left[0]) is not None):
        number = _number(left[0]) or number
        left = left[1:]
    attributes = []
    while len(left) > 1 and _is_adjective(left[0]):
        attributes.append(left.pop(0))
    if not 0 < len(left) <= _LONGEST_NOUN or any(word in STOPS or not word[0].isalpha() for word in left):
        return None
    if len(left) == 1 and left[0] in (ADJECTIVES | COLOURS) - ALSO_NOUNS:
        return None
    noun = " ".join(left)
    return _Phrase(singular_of(noun) if number != 1 else noun, tuple(attributes), number)


def _number(word: str) -> int | None:
    if word.isdecimal() and 0 < int(word) <= 100:
        return int(word)
    return NUMBERS.index(word) if word in NUMBERS[1:] else None


def _is_adjective(word: str) -> bool:
    known = word in COLOURS or word in MATERIALS or word in ADJECTIVES
    return known or (
        word.endswith(_ADJECTIVE_ENDINGS) and word not in ("bed", "seed", "fish", "dish", "shed")
    )


def _facts(phrases: Sequence[_Phrase], relations: Sequence[tuple[int, str, int]]) -> Iterator[Fact]:
    """Yield each object once, then the assertions about them."""
    nouns = list(dict.fromkeys(phrase.noun for phrase in phrases))
    for noun in nouns:
        yield Fact("object", noun)
    said = set()
    for phrase in phrases:
        needs = (nouns.index(phrase.noun),)
        for attribute in phrase.attributes:
            if (phrase.noun, attribute) not in said:
                said.add((phrase.noun, attribute))
                yield Fact("attribute", phrase.noun, attribute, needs=needs)
    for phrase in phrases:
        if phrase.number:
            yield Fact("count", phrase.noun, number=phrase.number, needs=(nouns.index(phrase.noun),))
    for first, relation, second in relations:
        one, other = phrases[first].noun, phrases[second].noun
        both = (nouns.index(one), nouns.index(other))
        yield Fact("relation", one, relation, other, needs=both)
