"""The sentences of a world: true and false descriptions of its scenes, and their wording.

A world writes a subclass of :class:`Language` with its grammar, its relations, and the frequencies of its captions.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

from .description import AnyScene, Claim, Description, Phrase, claims, holds
from .grammar import Grammar

Change = Literal["noun", "colour", "size", "count", "relation", "ground", "sky"]
"""What a false description changes."""

_T = TypeVar("_T")
_TRIES = 20


class Language(ABC):
    """The sentences of a world."""

    grammar: ClassVar[Grammar]
    opposite: ClassVar[Mapping[str, str]]
    """For each relation, one that is false if the key is true."""
    changes: ClassVar[Sequence[Change]]
    """What :meth:`corrupt` changes, except for the relation. A repeated entry is more frequent."""
    relation_changes: ClassVar[int]
    """How often the relation is added to :attr:`changes` if a description has one."""

    # --- defined by each world ---

    @abstractmethod
    def related(self, a: Any, relation: str, b: Any) -> bool:
        """Return whether ``relation`` holds between two items of a scene."""

    @abstractmethod
    def relation_of(self, a: Any, b: Any, rng: random.Random) -> str:
        """Return a relation that holds between two items."""

    @abstractmethod
    def name_of(self, item: Any) -> Phrase:
        """Return the kind of an item: its noun, and its colour if captions name it."""

    @abstractmethod
    def phrase_for(self, item: Any, rng: random.Random, full: bool) -> Phrase:
        """Return a phrase for one item, with some of its attributes."""

    @abstractmethod
    def place_of(self, scene: Any, rng: random.Random, full: bool) -> tuple[str | None, str | None]:
        """Return the ground and the sky, each None if the description does not name it."""

    @abstractmethod
    def other_colours(self, phrase: Phrase) -> Sequence[str]:
        """Return the colours that a false phrase may have, in which its own may be included."""

    # --- text and truth ---

    def read(self, text: str) -> Description | None:
        """Parse a caption in any wording. Return None if it is not a sentence of this world, for example because of a
        typo."""
        return self.grammar.read(text)

    def wording(self, description: Description, rng: random.Random | None = None) -> str:
        """Write a description as English. Without ``rng``, use the simplest wording."""
        return self.grammar.wording(description, rng)

    def holds(self, claim: Claim, scene: AnyScene) -> bool:
        """Return whether a claim is true of a scene."""
        return holds(claim, scene, self.related)

    def true_of(self, description: Description, scene: AnyScene) -> bool:
        """Return whether every claim of a description holds."""
        return all(self.holds(claim, scene) for claim in claims(description))

    # --- scene -> description ---

    def describe(self, scene: AnyScene, rng: random.Random, *, full: bool = False) -> Description:
        """Return a true description of a scene, or with ``full=False`` of a random part of it.

        Items of one kind are named together, with their number. A full description of two items of different kinds
        states their relation.
        """
        chosen = list(scene.items)
        rng.shuffle(chosen)
        if not full:
            chosen = chosen[: rng.randint(1, len(chosen))]
        phrases: list[Phrase] = []
        used: list[Any] = []
        for item in chosen:
            if any(phrase.matches(item) for phrase in phrases):
                continue
            phrase = self.phrase_for(item, rng, full)
            phrases.append(replace(phrase, count=sum(map(phrase.matches, scene.items))))
            used.append(item)
        relation = None
        if len(phrases) == 2 and phrases[0].count == phrases[1].count == 1 and (full or rng.random() < 0.7):
            relation = self.relation_of(used[0], used[1], rng)
        return Description(tuple(phrases), relation, *self.place_of(scene, rng, full))

    def describe_relation(self, scene: AnyScene, rng: random.Random) -> Description:
        """Describe the relation of two items of a scene, with their colours, in random order."""
        first, second = rng.sample(scene.items, 2)
        phrases = (self.name_of(first), self.name_of(second))
        return Description(phrases, self.relation_of(first, second, rng))

    # --- false descriptions ---

    def corrupt(
        self, description: Description, scene: AnyScene, rng: random.Random, change: Change | None = None
    ) -> Description | None:
        """Change one attribute, relation or count so that the description becomes false of the scene.

        :param change: what to change; None: anything that the description has.
        :returns: None if a few tries find no false variant, for example because the description lacks what to change.
        """
        possible = [*self.changes, *["relation"] * (self.relation_changes if description.relation else 0)]
        for _ in range(_TRIES):
            changed = self._changed(description, rng.choice([change] if change else possible), rng)
            if changed is not None and not self.true_of(changed, scene):
                return changed
        return None

    def _changed(self, description: Description, change: str, rng: random.Random) -> Description | None:
        if change == "relation":
            return self._with_other_relation(description, rng)
        if change == "ground":
            ground = description.ground
            return (
                replace(description, ground=other(tuple(self.grammar.grounds), ground, rng))
                if ground
                else None
            )
        if change == "sky":
            sky = description.sky
            return replace(description, sky=other(tuple(self.grammar.skies), sky, rng)) if sky else None
        which = rng.randrange(len(description.phrases))
        numbers = (1, 2, 3) if description.relation is None else (1,)
        phrase = self._changed_phrase(description.phrases[which], change, numbers, rng)
        if phrase is None:
            return None
        phrases = list(description.phrases)
        phrases[which] = phrase
        return replace(description, phrases=tuple(phrases))

    def _with_other_relation(self, description: Description, rng: random.Random) -> Description | None:
        if description.relation is None:
            return None
        if rng.random() < 0.5:
            first, second, *rest = description.phrases
            return replace(description, phrases=(second, first, *rest))
        return replace(description, relation=self.opposite[description.relation])

    def _changed_phrase(
        self, phrase: Phrase, change: str, numbers: Sequence[int], rng: random.Random
    ) -> Phrase | None:
        if change == "count":
            return replace(phrase, count=other(numbers, phrase.count, rng))
        if change == "noun":
            return replace(phrase, noun=other(tuple(self.grammar.nouns), phrase.noun, rng))
        if change == "size" and phrase.size is not None:
            return replace(phrase, size=other(tuple(self.grammar.sizes), phrase.size, rng))
        if change == "colour" and (colours := self.other_colours(phrase)):
            return replace(phrase, colour=other(colours, phrase.colour, rng))
        return None


def other(choices: Sequence[_T], current: _T | None, rng: random.Random) -> _T:
    """Return a random other choice than the current one, or the current one if it is the only choice."""
    return rng.choice([choice for choice in choices if choice != current] or list(choices))
