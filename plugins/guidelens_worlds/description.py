"""Meanings of captions, and checks whether they are true of a scene. Any world can use them.

A :class:`Description` is the meaning of a caption. :func:`claims` lists what a picture must show, :func:`holds`
checks one claim against a scene. A world only defines how two of its things can be related.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


class SceneItem(Protocol):
    """One thing in a scene, with the attributes that a caption can name."""

    @property
    def noun(self) -> str:
        """The noun that names it."""

    @property
    def looks(self) -> str:
        """Its colour."""

    @property
    def size(self) -> str:
        """``small`` or ``large``."""


class AnyScene(Protocol):
    """What :func:`holds` needs to know of a scene."""

    @property
    def ground(self) -> str:
        """The ground."""

    @property
    def sky(self) -> str:
        """The sky."""

    @property
    def items(self) -> Sequence[SceneItem]:
        """The things in it."""


Related = Callable[[Any, str, Any], bool]
"""Whether the first item of a scene is in a relation to the second."""
ClaimKind = Literal["object", "count", "relation", "ground", "sky"]


@dataclass(frozen=True)
class Phrase:
    """``count`` things of one noun. None means any colour or size. A count of 1 means at least one."""

    noun: str
    colour: str | None = None
    size: str | None = None
    count: int = 1

    def matches(self, item: SceneItem) -> bool:
        """Return whether a thing is of this kind."""
        return item.noun == self.noun and self.colour in (None, item.looks) and self.size in (None, item.size)


@dataclass(frozen=True)
class Description:
    """The meaning of a caption. ``relation`` relates the first two phrases."""

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    ground: str | None = None
    sky: str | None = None


@dataclass(frozen=True)
class Claim:
    """One checkable assertion. ``value`` is the relation, ground or sky."""

    kind: ClaimKind
    phrases: tuple[Phrase, ...] = ()
    value: str = ""


def claims(description: Description) -> list[Claim]:
    """Return the claims of a description: one per phrase, then relation, ground and sky."""
    listed = [Claim("count" if p.count > 1 else "object", (p,)) for p in description.phrases]
    if description.relation is not None:
        listed.append(Claim("relation", description.phrases[:2], description.relation))
    if description.ground is not None:
        listed.append(Claim("ground", value=description.ground))
    if description.sky is not None:
        listed.append(Claim("sky", value=description.sky))
    return listed


def holds(claim: Claim, scene: AnyScene, related: Related) -> bool:
    """Return whether a claim is true of a scene.

    An object claim needs at least one match, and a count claim exactly the number. A relation needs two different
    things that are related in this way.
    """
    if claim.kind == "ground":
        return scene.ground == claim.value
    if claim.kind == "sky":
        return scene.sky == claim.value
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
