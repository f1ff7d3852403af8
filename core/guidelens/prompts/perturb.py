"""Perturb prompts with seeded typos, homophones, and changes of case or word order.

A perturbation is written like a component: ``typo:edits=2,kind=swap``. The result depends only on the text, the
perturbation and the seed, not on other prompts or their order.
"""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins.spelling import format_component, parse_component, suggestion
from guidelens.plugins.values import check_options, format_value, options_of

from .distance import edit_distance
from .homophones import homophones

_TRIES = 400
"""After this number of unsuccessful draws, a text is assumed to have no place for another edit."""
MOST = 100
"""The largest number of edits, words or swaps that a perturbation makes."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True)
class Perturbed:
    """A perturbed text.

    :param text: the text after perturbation; the clean text if nothing could be perturbed.
    :param clean: the text before perturbation.
    :param spec: the canonical spelling of the perturbation.
    :param edits: the edit distance between both texts (:func:`~guidelens.prompts.edit_distance`), in characters.
    :param asked: the requested distance; None if the perturbation does not count edits.
    """

    text: str
    clean: str
    spec: str
    edits: int
    asked: int | None = None

    @property
    def changed(self) -> bool:
        """Whether the text was changed."""
        return self.text != self.clean

    @property
    def note(self) -> str:
        """A note if less than requested, or nothing, was perturbed; else empty."""
        if not self.changed:
            return f"{self.spec} finds nothing to perturb in {self.clean!r}"
        if self.asked is not None and self.edits != self.asked:
            return f"{self.spec} finds room for {self.edits} edits only in {self.clean!r}"
        return ""


def perturb(text: str, spec: str, seed: int = 0) -> Perturbed:
    """Perturb a text.

    :param spec: ``name`` or ``name:key=value,...``; :data:`PERTURBATIONS` names them.
    :param seed: the same text, spelling and seed give the same result.
    :raises UsageError: for an unknown perturbation, or invalid options.
    """
    name, options = _parsed(spec)
    canonical = _canonical(name, options)
    # The number of edits is left out, so that two edits include the single edit of the same seed.
    kept = {key: value for key, value in options.items() if key != "edits"}
    rng = random.Random(f"{_canonical(name, kept)}/{seed}/{text}")
    changed = PERTURBATIONS[name](text, rng, **options)
    asked = options.get("edits", 1) if name == "typo" else None
    return Perturbed(changed, text, canonical, edit_distance(text, changed), asked)


def perturb_prompts(
    prompts: Iterable[Prompt], specs: Iterable[str], seed: int = 0
) -> tuple[list[Prompt], list[Perturbed]]:
    """Return each prompt followed by its perturbed forms, and the origin of each form.

    A perturbed prompt keeps the category and the target of its clean prompt. A form that equals its clean prompt is
    left out of the prompts, and its ``note`` says so.

    :raises UsageError: see :func:`perturb`.
    """
    listed = list(dict.fromkeys(specs))
    result: list[Prompt] = []
    forms: list[Perturbed] = []
    for prompt in prompts:
        result.append(prompt)
        for spec in listed:
            form = perturb(prompt.text, spec, seed)
            forms.append(form)
            if form.changed:
                result.append(replace(prompt, text=form.text, reference=prompt.target))
    return result, forms


def _options(function: Callable[..., str]) -> tuple[Any, ...]:
    named = list(inspect.signature(function).parameters)[2:]
    return tuple(option for option in options_of(function) if option.name in named)


def _parsed(spec: str) -> tuple[str, dict[str, Any]]:
    name, given = parse_component(spec)
    if name not in PERTURBATIONS:
        near = suggestion(name, PERTURBATIONS)
        raise UsageError(f"unknown perturbation {name!r}{near}; choose {', '.join(PERTURBATIONS)}")
    what = f"perturbation {name!r}"
    options = check_options(what, _options(PERTURBATIONS[name]), given)
    for key in ("edits", "words", "swaps", "min_length"):
        if isinstance(options.get(key), int) and not 1 <= options[key] <= MOST:
            raise UsageError(
                f"{what}, option {key!r}: expected a number from 1 to {MOST}, not {given[key][:40]}"
            )
    return name, options


def _canonical(name: str, options: dict[str, Any]) -> str:
    defaults = {option.name: option.default for option in _options(PERTURBATIONS[name])}
    written = [(k, format_value(v)) for k, v in options.items() if v != defaults[k]]
    return format_component(name, written)


# -- typos

Kind = Literal["any", "swap", "drop", "insert", "replace"]


def typo(text: str, rng: random.Random, edits: int = 1, kind: Kind = "any", min_length: int = 4) -> str:
    """Make typing errors in words. First letters, digits, punctuation and the number of words do not change.

    :param edits: the edit distance between the texts. It is smaller if the text is too short. With the same seed,
        ``edits=2`` includes the edit of ``edits=1``.
    :param kind: ``swap`` two neighbouring letters, ``drop`` one, ``insert`` a neighbour on a QWERTY keyboard beside
        a letter, or ``replace`` a letter by such a neighbour; ``any`` draws one of these for each edit.
    :param min_length: words with fewer letters are not changed.
    """
    current = text
    for wanted in range(1, edits + 1):
        tries = (_slip(current, rng, kind, min_length) for _ in range(_TRIES))
        found = next((new for new in tries if edit_distance(text, new) == wanted), None)
        if found is None:
            break
        current = found
    return current


def _slip(text: str, rng: random.Random, kind: Kind, min_length: int) -> str:
    """Return the text after one error, or unchanged if the draw fits no word."""
    words = [match for match in _WORD.finditer(text) if len(match[0]) >= min_length]
    if not words:
        return text
    match = rng.choices(words, weights=[len(word[0]) for word in words])[0]
    made = rng.choice(("swap", "drop", "insert", "replace")) if kind == "any" else kind
    return text[: match.start()] + _slipped(match[0], made, rng) + text[match.end() :]


def _slipped(word: str, kind: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word))
    letter = word[at]
    near = _NEIGHBOURS.get(letter.lower(), "")
    if not letter.isalpha():
        return word
    if kind == "swap" and at + 1 < len(word) and word[at + 1].isalpha():
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    if kind == "drop" and len(word) > 2:
        return word[:at] + word[at + 1 :]
    if kind == "insert" and near:
        after = at + rng.randrange(2)
        return word[:after] + _like(rng.choice(near), letter) + word[after:]
    if kind == "replace" and near:
        return word[:at] + _like(rng.choice(near), letter) + word[at + 1 :]
    return word


def _like(new: str, old: str) -> str:
    return new.upper() if old.isupper() else new


def _keyboard() -> dict[str, str]:
    """Return the neighbours of each letter. Each row of keys is shifted by half a key relative to the row above."""
    places = {key: (x + 0.5 * y, y) for y, row in enumerate(_ROWS) for x, key in enumerate(row)}
    return {
        key: "".join(
            other
            for other, (u, v) in places.items()
            if other != key and abs(v - y) <= 1 and abs(u - x) <= (1 if v == y else 0.5)
        )
        for key, (x, y) in places.items()
    }


_NEIGHBOURS = _keyboard()


# -- homophones, case, order


def homophone(text: str, rng: random.Random, words: int = 1, near: bool = True) -> str:
    """Replace words by words that sound alike, from the list in :mod:`guidelens.prompts.homophones`.

    :param words: the number of words to replace. Only words in the list are replaced.
    :param near: also use words that sound only nearly alike, such as dessert for desert.
    """
    known = homophones(near=near)
    places = [match for match in _WORD.finditer(text) if match[0].lower() in known]
    chosen = sorted(rng.sample(places, min(words, len(places))), key=lambda match: match.start())
    for match in reversed(chosen):
        new = rng.choice(known[match[0].lower()])
        word = match[0]
        new = (
            new.upper()
            if word.isupper() and len(word) > 1
            else new.capitalize()
            if word[0].isupper()
            else new
        )
        text = text[: match.start()] + new + text[match.end() :]
    return text


def case(text: str, rng: random.Random, to: Literal["upper", "lower", "title", "random"] = "upper") -> str:
    """Change the case of letters.

    :param to: ``upper`` or ``lower`` for all letters, ``title`` for capitals at the start of words, ``random`` for a
        random case of each letter.
    """
    if to == "random":
        changed = "".join(letter.upper() if rng.random() < 0.5 else letter.lower() for letter in text)
    elif to == "title":
        changed = _WORD.sub(lambda match: match[0].capitalize(), text)
    else:
        changed = text.upper() if to == "upper" else text.lower()
    return changed


def order(text: str, rng: random.Random, swaps: int | None = None) -> str:
    """Change the order of words that are separated by spaces.

    :param swaps: the number of swaps of neighbouring words; none: shuffle all words.
    """
    words = text.split()
    if len(set(words)) < 2:
        return text
    for _ in range(_TRIES):
        new = list(words)
        if swaps is None:
            rng.shuffle(new)
        else:
            for _swap in range(swaps):
                at = rng.randrange(len(new) - 1)
                new[at], new[at + 1] = new[at + 1], new[at]
        if new != words:
            return " ".join(new)
    return text


PERTURBATIONS: dict[str, Callable[..., str]] = {
    "typo": typo,
    "homophone": homophone,
    "case": case,
    "order": order,
}
"""The perturbations by name. Each is a function of the text, a source of random numbers, and its options."""
