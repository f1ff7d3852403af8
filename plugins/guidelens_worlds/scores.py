"""Score a scene that was read from a picture against a description. Any world can use these scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .description import AnyScene, Claim, Description, Phrase, SceneItem, claims

Holds = Callable[[Claim, AnyScene], bool]
"""Whether a claim is true of a scene."""


def description_scores(description: Description, scene: AnyScene, holds: Holds) -> dict[str, float]:
    """Return the scores of a scene in [0, 1]; higher is better. Scores that do not apply are left out.

    - ``alignment``: share of the assertions that hold. It is 0 if the scene has no things, because a ground alone does
      not depict a prompt.
    - ``recall``: share of the named kinds that appear at least once. ``recall_main`` is that of the kind named first,
      ``recall_rest`` that of the others.
    - ``precision``: share of the things that the description names.
    - ``binding``: of the named kinds whose colour and whose noun both appear, the share that appear together. It is 0
      if there are none, so that an empty picture gains nothing. ``binding_shown`` leaves these pictures out.
    - ``relation``, ``count``, ``ground``: the share of assertions of this kind that hold.
    """
    listed = claims(description)
    held = [bool(scene.items) and holds(claim, scene) for claim in listed]
    scores = {"alignment": sum(held) / len(held), **_recalls(description.phrases, scene.items)}
    named = sum(any(p.matches(item) for p in description.phrases) for item in scene.items)
    scores["precision"] = named / len(scene.items) if scene.items else 0.0
    scores |= _bindings(description.phrases, scene.items)
    for kind in ("relation", "count", "ground"):
        of_kind = [ok for ok, claim in zip(held, listed, strict=True) if claim.kind == kind]
        if of_kind:
            scores[kind] = sum(of_kind) / len(of_kind)
    return scores


def recall(phrases: Sequence[Phrase], items: Sequence[SceneItem]) -> float:
    """Return the share of phrases that some item matches."""
    return sum(any(map(p.matches, items)) for p in phrases) / len(phrases)


def _recalls(phrases: Sequence[Phrase], items: Sequence[SceneItem]) -> dict[str, float]:
    scores = {"recall": recall(phrases, items), "recall_main": recall(phrases[:1], items)}
    return {**scores, "recall_rest": recall(phrases[1:], items)} if len(phrases) > 1 else scores


def _bindings(phrases: Sequence[Phrase], items: Sequence[SceneItem]) -> dict[str, float]:
    coloured = [p for p in phrases if p.colour is not None]
    if not coloured:
        return {}
    looks, nouns = {item.looks for item in items}, {item.noun for item in items}
    both = [p for p in coloured if p.colour in looks and p.noun in nouns]
    if not both:
        return {"binding": 0.0}
    bound = sum(any(o.looks == p.colour and o.noun == p.noun for o in items) for p in both) / len(both)
    return {"binding": bound, "binding_shown": bound}
