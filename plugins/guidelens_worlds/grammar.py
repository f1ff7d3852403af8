"""Write and parse captions of a world, with tables of words that the world provides."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .description import Description, Phrase

_NUMBERS = {1: "a", 2: "two", 3: "three"}
_NUMBER_OF = {"a": 1, "an": 1, "one": 1, "the": 1, "two": 2, "three": 3, "2": 2, "3": 3}
_OPENINGS = ("a picture of", "an image of", "a drawing of", "there is")
_OPENING = re.compile(r"^(?:an? (?:picture|image|drawing|photo|photograph) of |there (?:is|are) )")
_OPENING_SHARE = 0.2
_JOINT = re.compile(r"(?:,? and |, )")

_T = TypeVar("_T")

Synonyms = Mapping[str, Sequence[str]]
"""Meaning -> its words, the simplest first."""


@dataclass(frozen=True)
class Noun:
    """One noun with its plural."""

    singular: str
    plural: str


@dataclass(frozen=True)
class Grammar:
    """The words of a world. The first of several words is the simplest.

    :param nouns: name of a thing -> its nouns.
    :param colours: names of colours.
    :param sizes: size -> adjectives.
    :param relations: relation -> prepositions.
    :param grounds: ground -> adverbials ("in the desert").
    :param skies: sky -> adverbials ("at night").
    :param also_read: further words -> their meaning (a size, relation, ground or sky). They are read, but not written.
    """

    nouns: Mapping[str, Sequence[Noun]]
    colours: Sequence[str]
    sizes: Synonyms
    relations: Synonyms
    grounds: Synonyms
    skies: Synonyms
    also_read: Mapping[str, str] = field(default_factory=dict)
    _phrase: re.Pattern[str] = field(init=False, repr=False)
    _relation: re.Pattern[str] = field(init=False, repr=False)
    _place: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nouns = [form for several in self.nouns.values() for n in several for form in (n.singular, n.plural)]
        phrase = (
            rf"(?:{_one_of(_NUMBER_OF, 'number')} )?(?:{_one_of(self._words(self.sizes), 'size')} )?"
            rf"(?:{_one_of(self.colours, 'colour')} )?{_one_of(nouns, 'noun')}\b"
        )
        grounds, skies = _one_of(self._words(self.grounds), "ground"), _one_of(self._words(self.skies), "sky")
        set_late = object.__setattr__  # the class is frozen
        set_late(self, "_phrase", re.compile(phrase))
        set_late(self, "_relation", re.compile(f" {_one_of(self._words(self.relations), 'relation')} "))
        set_late(self, "_place", re.compile(rf"(?: {grounds})?(?: {skies})?$"))

    def _words(self, synonyms: Synonyms) -> list[str]:
        """Return all words for the meanings in ``synonyms``."""
        written = [word for several in synonyms.values() for word in several]
        return written + [word for word, meaning in self.also_read.items() if meaning in synonyms]

    def _meaning(self, synonyms: Synonyms, word: str | None) -> str | None:
        if word is None:
            return None
        if word in self.also_read:
            return self.also_read[word]
        return next((meaning for meaning, several in synonyms.items() if word in several), None)

    def wording(self, description: Description, rng: random.Random | None = None) -> str:
        """Write a description as English. Without ``rng``, use the simplest wording."""
        nouns = [self._noun_phrase(phrase, rng) for phrase in description.phrases]
        if description.relation is not None:
            preposition = _pick(self.relations[description.relation], rng)
            nouns = [f"{nouns[0]} {preposition} {nouns[1]}", *nouns[2:]]
        text = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
        if description.ground is not None:
            text += " " + _pick(self.grounds[description.ground], rng)
        if description.sky is not None:
            text += " " + _pick(self.skies[description.sky], rng)
        if rng is not None and rng.random() < _OPENING_SHARE:
            opening = rng.choice(_OPENINGS)
            plural = opening == "there is" and description.phrases[0].count > 1
            text = f"{'there are' if plural else opening} {text}"
        return text

    def _noun_phrase(self, phrase: Phrase, rng: random.Random | None) -> str:
        words = [_pick(self.sizes[phrase.size], rng)] if phrase.size else []
        words += [phrase.colour] if phrase.colour else []
        noun = _pick(self.nouns[phrase.noun], rng)
        words.append(noun.singular if phrase.count == 1 else noun.plural)
        number = _NUMBERS[phrase.count]
        if number == "a" and words[0][0] in "aeiou":
            number = "an"
        return " ".join([number, *words])

    def read(self, text: str) -> Description | None:
        """Parse a caption in any wording. Return None if it is not a sentence of this world, for example because of a
        typo."""
        rest = _OPENING.sub("", re.sub(r"\s+", " ", text.strip().lower().rstrip(" .!")))
        phrases: list[Phrase] = []
        relation = None
        while True:
            phrase, length = self._read_phrase(rest)
            if phrase is None:
                return None
            phrases.append(phrase)
            rest = rest[length:]
            if (place := self._place.match(rest)) is not None:
                ground = self._meaning(self.grounds, place["ground"])
                sky = self._meaning(self.skies, place["sky"])
                return Description(tuple(phrases), relation, ground, sky)
            if len(phrases) == 1 and (joint := self._relation.match(rest)):
                relation = self._meaning(self.relations, joint["relation"])
            elif not (joint := _JOINT.match(rest)):
                return None
            rest = rest[joint.end() :]

    def _read_phrase(self, text: str) -> tuple[Phrase | None, int]:
        """Return the phrase at the start of ``text`` and its length, or None if there is no phrase."""
        found = self._phrase.match(text)
        if found is None:
            return None, 0
        count = _NUMBER_OF[found["number"] or "a"]
        for name, nouns in self.nouns.items():
            if any(found["noun"] == (n.singular if count == 1 else n.plural) for n in nouns):
                size = self._meaning(self.sizes, found["size"])
                return Phrase(name, found["colour"], size, count), found.end()
        return None, 0


def _pick(words: Sequence[_T], rng: random.Random | None) -> _T:
    """Return a random word, or without ``rng`` the first one. A single word takes nothing from ``rng``."""
    return words[0] if rng is None or len(words) == 1 else rng.choice(words)


def _one_of(words: Sequence[str] | Mapping[str, int], group: str) -> str:
    """Return a pattern for any of the words, the longest first. Without words it matches nothing."""
    if not words:
        return f"(?P<{group}>(?!))"
    return rf"(?P<{group}>{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"
