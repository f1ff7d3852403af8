"""The texts that raters read (questions, answers, consent, attention checks), and conclusions from their answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from guidelens.errors import UsageError

from .design import FORCED_CHOICE, PAIRWISE, RATING, RATINGS, answers

if TYPE_CHECKING:
    from .statistics import QuestionResult

_KNOWN = {
    "realism": {
        PAIRWISE: "Which picture looks more {looks}?",
        FORCED_CHOICE: "Which picture looks most {looks}?",
        RATING: "How {looks} does the picture look?",
    },
    "alignment": {
        PAIRWISE: "Which picture fits the sentence better?",
        FORCED_CHOICE: "Which picture fits the sentence best?",
        RATING: "How well does the picture fit the sentence?",
    },
    "preference": {
        PAIRWISE: "Which picture do you prefer?",
        FORCED_CHOICE: "Which picture do you like best?",
        RATING: "How much do you like the picture?",
    },
}

CONSENT = """\
You are asked to look at pictures that a computer made from sentences, and to say what you see. This is research.
Taking part is voluntary: you may stop at any moment by closing the page, without giving a reason.
Stored are your answers, and when and how fast you gave them, under a random code. Your name, your \
address on the network and other personal data are not stored.
The answers are analysed together and may be published in that form."""

_RESERVED = re.compile(r"agree|picture\d*|revise|sentence|shown|signature")
"""Names of fields and parts in raters' forms, which questions cannot have."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


@dataclass(frozen=True)
class Question:
    """A question of every item: a short name for tables, and the text that raters read."""

    name: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return the values that the survey's file stores."""
        return asdict(self)


def looks(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return the word in the question about realism: the one that a metric declares for its world, else ``real``.

    :param metrics: as ``config.json`` has them.
    """
    columns = [column for metric in metrics for column in metric["columns"]]
    return next((c["looks"] for c in columns if c.get("role") == "realism" and c.get("looks")), "real")


def questions(spellings: Sequence[str], kind: str, looks: str = "real") -> list[Question]:
    """Read questions: the name of a known one, or ``name=Text?``.

    :param looks: the word in the question about realism (:func:`looks`).

    :raises UsageError: a name is unknown, there are no questions, or two have the same name.
    """
    found = []
    for spelling in spellings:
        name, sign, text = (part.strip() for part in spelling.partition("="))
        if not _NAME.fullmatch(name):
            raise UsageError(f"question {spelling!r}: its name has lower-case letters, digits, - and _")
        if not sign and name not in _KNOWN:
            raise UsageError(
                f"unknown question {name!r}; there are {', '.join(_KNOWN)}, or write your own: {name}='What ...?'"
            )
        if sign and not text:
            raise UsageError(f"question {spelling!r} has no text")
        if _RESERVED.fullmatch(name):
            raise UsageError(f"question {name!r}: raters' forms use that name for a field; choose another")
        found.append(Question(name, text or _KNOWN[name][kind].format(looks=looks)))
    names = [question.name for question in found]
    if not found or len(set(names)) < len(names):
        raise UsageError(f"questions {', '.join(names) or '(none)'}: give one or more, each once")
    return found


def choices(kind: str, places: int) -> list[tuple[int, str]]:
    """Return the answers of an item with their labels, in the order of the screen."""
    if kind == PAIRWISE:
        return [(1, "Left"), (0, "No difference"), (2, "Right")]
    if kind == RATING:
        ends = {1: "1 (not at all)", RATINGS: f"{RATINGS} (completely)"}
        return [(a, ends.get(a, str(a))) for a in answers(kind, places)]
    return [(a, f"Picture {a}") for a in answers(kind, places)]


def instruction(kind: str, expected: int, places: int) -> str:
    """Return the text that an attention check shows instead of the sentence."""
    label = dict(choices(kind, places))[expected]
    return f"This screen checks attention. Please answer “{label}” to every question here."


def minutes(screens: int, asked: int) -> int:
    """Estimate the minutes of a session: three seconds per screen and two per answer."""
    return max(1, ceil(screens * (3 + 2 * asked) / 60))


def place_name(kind: str, place: int) -> str:
    """Name the picture at a place, counted from 1."""
    if kind == PAIRWISE:
        return ("Left picture", "Right picture")[place - 1]
    return "Picture" if kind == RATING else f"Picture {place}"


def conclusion(question: QuestionResult, chance: float | None) -> str:
    """Describe in a sentence what the intervals of a question show, or state that nothing differs.

    :param chance: the mean that conditions would have if they did not matter. None for ratings, where conditions differ
        if their intervals do not overlap.
    """
    known = {name: found for name, found in question.means.items() if math.isfinite(found.low)}
    if not known:
        return "Too few answers for intervals: nothing can be concluded yet."
    if chance is None:
        high, low = (
            max(known, key=lambda name: known[name].low),
            min(known, key=lambda name: known[name].high),
        )
        if known[high].low <= known[low].high:
            return "Nothing differs: the intervals of all conditions overlap."
        return f"{high} is rated higher than {low}: their intervals do not overlap."
    above = [name for name, found in known.items() if found.low > chance]
    below = [name for name, found in known.items() if found.high < chance]
    parts = [
        f"{', '.join(names)}: {words} than chance"
        for names, words in ((above, "more often chosen"), (below, "less often chosen"))
        if names
    ]
    if not parts:
        return "Nothing differs from chance: the interval of every condition includes it."
    rest = len(known) - len(above) - len(below)
    return "; ".join(parts) + ("; the rest does not differ from chance." if rest else ".")
