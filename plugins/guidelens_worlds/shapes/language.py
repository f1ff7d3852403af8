"""The sentences of the shapes world: descriptions, their wordings, and their truth in a scene.

A :class:`Description` is the meaning of a caption. :func:`wording` writes it as text, and :func:`read` parses any
wording. :func:`claims` lists what a picture must show, and :func:`holds` checks one claim against a scene.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from .world import BACKGROUNDS, COLOURS, SHAPES, SIZES, Item, Scene

RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATION_MARGIN = 3.0
"""Smallest distance in pixels between two centres, along the axis of a relation, for the relation to hold."""

_NUMBERS = {1: "a", 2: "two", 3: "three"}
_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_RELATION_WORDS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_BACKGROUND_WORDS = ("on a {} background", "in front of a {} background", "with a {} background")
_OPENINGS = ("a picture of", "an image of", "a drawing of", "there is")


@dataclass(frozen=True)
class Phrase:
    """``count`` objects of a shape. None means any colour or size. A count of 1 means at least one."""

    shape: str
    colour: str | None = None
    size: str | None = None
    count: int = 1

    def matches(self, item: Item) -> bool:
        """Return whether an object is of this kind."""
        return (
            item.shape == self.shape and self.colour in (None, item.colour) and self.size in (None, item.size)
        )


@dataclass(frozen=True)
class Description:
    """The meaning of a caption. ``relation`` relates the first two phrases."""

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    background: str | None = None


@dataclass(frozen=True)
class Claim:
    """One checkable assertion: ``object``, ``count``, ``relation`` or ``background``."""

    kind: str
    phrases: tuple[Phrase, ...] = ()
    value: str = ""


def claims(description: Description) -> list[Claim]:
    """Return the claims of a description: one per phrase, then the relation, then the background."""
    listed = [Claim("count" if p.count > 1 else "object", (p,)) for p in description.phrases]
    if description.relation is not None:
        listed.append(Claim("relation", description.phrases[:2], description.relation))
    if description.background is not None:
        listed.append(Claim("background", value=description.background))
    return listed


def holds(claim: Claim, scene: Scene) -> bool:
    """Return whether a claim is true of a scene.

    An object claim needs at least one match, and a count claim exactly the number. A relation needs two different
    objects in this order, with at least :data:`RELATION_MARGIN` pixels between them along its axis.
    """
    if claim.kind == "background":
        return scene.background == claim.value
    if claim.kind == "relation":
        first, second = claim.phrases
        return any(
            a is not b and first.matches(a) and second.matches(b) and related(a, claim.value, b)
            for a in scene.items
            for b in scene.items
        )
    (phrase,) = claim.phrases
    found = sum(phrase.matches(item) for item in scene.items)
    return found == phrase.count if claim.kind == "count" else found >= 1


def related(a: Item, relation: str, b: Item) -> bool:
    """Return whether ``relation`` holds between ``a`` and ``b``."""
    distance = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[relation]
    return distance >= RELATION_MARGIN


def true_of(description: Description, scene: Scene) -> bool:
    """Return whether every claim of a description holds."""
    return all(holds(claim, scene) for claim in claims(description))


# --- scene -> description -----------------------------------------------------------------------------------


def describe(scene: Scene, rng: random.Random, *, full: bool = False) -> Description:
    """Return a true description of a scene, or with ``full=False`` of a random part of it.

    Objects of one kind are named together, with their number. A full description of two objects of different
    kinds states their relation, along the axis on which they are farther apart.
    """
    chosen = list(scene.items)
    rng.shuffle(chosen)
    if not full:
        chosen = chosen[: rng.randint(1, len(chosen))]
    phrases: list[Phrase] = []
    used: list[Item] = []
    for item in chosen:
        if any(phrase.matches(item) for phrase in phrases):
            continue
        phrase = Phrase(
            item.shape,
            item.colour if full or rng.random() < 0.9 else None,
            item.size if full or rng.random() < 0.4 else None,
        )
        phrases.append(replace(phrase, count=sum(map(phrase.matches, scene.items))))
        used.append(item)
    relation = None
    if len(phrases) == 2 and phrases[0].count == phrases[1].count == 1 and (full or rng.random() < 0.7):
        relation = _dominant_relation(used[0], used[1])
    background = scene.background if full or rng.random() < 0.3 else None
    return Description(tuple(phrases), relation, background)


def describe_relation(scene: Scene, rng: random.Random) -> Description:
    """Describe the relation of the two objects of a scene, by colour and shape, in random order."""
    first, second = rng.sample(scene.items, 2)
    phrases = tuple(Phrase(item.shape, item.colour) for item in (first, second))
    return Description(phrases, _dominant_relation(first, second))


def _dominant_relation(a: Item, b: Item) -> str:
    if abs(a.x - b.x) >= abs(a.y - b.y):
        return "left of" if a.x < b.x else "right of"
    return "above" if a.y < b.y else "below"


def corrupt(
    description: Description, scene: Scene, rng: random.Random, kind: str | None = None
) -> Description | None:
    """Change one attribute, relation or count so that the description becomes false of the scene.

    :param kind: ``colour``, ``shape``, ``size``, ``count``, ``relation`` or ``background``. None: any that the
        description has, half of the time the relation, as it is the hardest to learn.
    :returns: None if a few tries find no false variant, for example because the description lacks the kind.
    """
    common = ["colour", "shape", "colour", "shape", "size", "count", "background"]
    kinds = [kind] if kind else common + ["relation"] * (len(common) if description.relation else 0)
    for _ in range(20):
        changed = _change(description, rng.choice(kinds), rng)
        if changed is not None and not true_of(changed, scene):
            return changed
    return None


def _change(description: Description, kind: str, rng: random.Random) -> Description | None:
    if kind == "relation":
        if description.relation is None:
            return None
        if rng.random() < 0.5:
            first, second, *rest = description.phrases
            return replace(description, phrases=(second, first, *rest))
        return replace(description, relation=OPPOSITE[description.relation])
    if kind == "background":
        if description.background is None:
            return None
        return replace(description, background=_other(tuple(BACKGROUNDS), description.background, rng))
    which = rng.randrange(len(description.phrases))
    phrase = description.phrases[which]
    if kind == "count":
        numbers = (1, 2, 3) if description.relation is None else (1,)
        phrase = replace(phrase, count=_other(numbers, phrase.count, rng))
    elif kind == "shape":
        phrase = replace(phrase, shape=_other(SHAPES, phrase.shape, rng))
    elif kind == "colour" and phrase.colour is not None:
        phrase = replace(phrase, colour=_other(tuple(COLOURS), phrase.colour, rng))
    elif kind == "size" and phrase.size is not None:
        phrase = replace(phrase, size=_other(tuple(SIZES), phrase.size, rng))
    else:
        return None
    phrases = list(description.phrases)
    phrases[which] = phrase
    return replace(description, phrases=tuple(phrases))


def _other(choices: Sequence, current: object, rng: random.Random):  # type: ignore[no-untyped-def]
    """Return a random other choice than the current one, or the current one if it is the only choice."""
    return rng.choice([choice for choice in choices if choice != current] or [current])


# --- description -> text ------------------------------------------------------------------------------------


def wording(description: Description, rng: random.Random | None = None) -> str:
    """Write a description as English. Without ``rng``, use the simplest wording."""

    def pick(words: Sequence[str]) -> str:
        return words[0] if rng is None else rng.choice(words)

    nouns = [_noun_phrase(phrase, pick) for phrase in description.phrases]
    if description.relation is not None:
        text = f"{nouns[0]} {pick(_RELATION_WORDS[description.relation])} {nouns[1]}"
        nouns = [text, *nouns[2:]]
    text = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
    if description.background is not None:
        text += " " + pick(_BACKGROUND_WORDS).format(description.background)
    if rng is not None and rng.random() < 0.2:
        opening = rng.choice(_OPENINGS)
        if opening == "there is" and description.phrases[0].count > 1:
            opening = "there are"
        text = f"{opening} {text}"
    return text


def _noun_phrase(phrase: Phrase, pick) -> str:  # type: ignore[no-untyped-def]
    words = [pick(_SIZE_WORDS[phrase.size])] if phrase.size else []
    words += [phrase.colour] if phrase.colour else []
    words.append(phrase.shape if phrase.count == 1 else _PLURALS[phrase.shape])
    number = _NUMBERS[phrase.count]
    if number == "a" and words[0][0] in "aeiou":
        number = "an"
    return " ".join([number, *words])


def misspell(text: str, rng: random.Random) -> str:
    """Swap, drop, double or replace one letter of a word of at least four letters. The text always changes.

    :raises ValueError: no word has four letters.
    """
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 4]
    if not long:
        raise ValueError(f"{text!r} has no word of four letters or more to misspell")
    which = rng.choice(long)
    word = words[which]
    at = rng.randrange(len(word) - 1)
    words[which] = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[: at + 1] + word[at:],
            word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :],
        )
    )
    if words[which] == word:  # two equal letters swapped, or a letter replaced by itself
        words[which] = word[: at + 1] + word[at:]
    return " ".join(words)


# --- text -> description ------------------------------------------------------------------------------------


def _alternatives(table: dict[str, Sequence[str]]) -> dict[str, str]:
    return {word: meaning for meaning, words in table.items() for word in words}


_SIZE_OF = _alternatives({"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")})
_RELATION_OF = _alternatives(
    {
        "left of": ("to the left of", "on the left of", "left of"),
        "right of": ("to the right of", "on the right of", "right of"),
        "above": ("above", "over", "on top of"),
        "below": ("below", "under", "underneath", "beneath"),
    }
)
_SHAPE_OF = _alternatives({shape: (shape, plural) for shape, plural in _PLURALS.items()})
_NUMBER_OF = {"a": 1, "an": 1, "one": 1, "the": 1, "two": 2, "three": 3, "2": 2, "3": 3}


def _one_of(words: Sequence[str], group: str) -> str:
    return rf"(?P<{group}>{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


_PHRASE = re.compile(
    rf"(?:{_one_of(tuple(_NUMBER_OF), 'number')} )?(?:{_one_of(tuple(_SIZE_OF), 'size')} )?"
    rf"(?:{_one_of(tuple(COLOURS), 'colour')} )?{_one_of(tuple(_SHAPE_OF), 'shape')}\b"
)
_OPENING = re.compile(r"^(?:an? (?:picture|image|drawing|photo|photograph) of |there (?:is|are) )")
_BACKGROUND = re.compile(
    r" (?:on|in front of|with|against) (?:a |the )?"
    rf"{_one_of((*BACKGROUNDS, 'grey'), 'background')} background$"
)
_RELATION = re.compile(rf"^ {_one_of(tuple(_RELATION_OF), 'relation')} ")
_JOINT = re.compile(r"^(?:,? and |, )")


@lru_cache(maxsize=4096)
def read(text: str) -> Description | None:
    """Parse a caption. Return None if it is not a sentence of this world, for example because of a typo."""
    rest = re.sub(r"\s+", " ", text.strip().lower().rstrip(" .!"))
    rest = _OPENING.sub("", rest)
    background = None
    if found := _BACKGROUND.search(rest):
        background = found["background"].replace("grey", "gray")
        rest = rest[: found.start()]
    phrases: list[Phrase] = []
    relation = None
    while True:
        found = _PHRASE.match(rest)
        if not found:
            return None
        shape, number = found["shape"], found["number"] or "a"
        if (shape in SHAPES) != (_NUMBER_OF[number] == 1):
            return None
        phrases.append(
            Phrase(
                _SHAPE_OF[shape],
                found["colour"],
                _SIZE_OF[found["size"]] if found["size"] else None,
                _NUMBER_OF[number],
            )
        )
        rest = rest[found.end() :]
        if not rest:
            return Description(tuple(phrases), relation, background)
        if len(phrases) == 1 and (joint := _RELATION.match(rest)):
            relation = _RELATION_OF[joint["relation"]]
        elif not (joint := _JOINT.match(rest)):
            return None
        rest = rest[joint.end() :]
