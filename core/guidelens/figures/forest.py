"""The forest plot of a study: one row per question, with effects in the predicted direction to the right of zero."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.claims.evaluate import CONTRADICTED, SUPPORTED, Answer, Verdict
from guidelens.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.24  # inches
_COLOURS = {SUPPORTED: "#1f7a4d", CONTRADICTED: "#b3261e"}
_OTHER = "#5f6368"


def draw_forest(figure_class: type[Figure], verdicts: Sequence[Verdict], width: float) -> Figure:
    """Draw direction x (mean - against) with its interval for every measured question.

    Values right of zero agree with the claim. Green is supported after correction, red is contradicted, and grey is
    undecided. Exploratory questions are left out, because they do not decide a claim.

    :raises UsageError: if no question was measured.
    """
    rows = [
        (verdict.claim.id, answer)
        for verdict in verdicts
        for answer in verdict.answers
        if answer.result is not None and not answer.question.exploratory
    ]
    if not rows:
        raise UsageError("this study measured no question, so the forest would be empty")
    letters = int(0.5 * width / 0.054)
    labels = [_label(claim, answer, letters) for claim, answer in rows]
    heights = [max(0.75, 0.46 * (label.count("\n") + 1)) for label in labels]
    places = [sum(heights[:i]) + heights[i] / 2 for i in range(len(rows))]
    figure = figure_class(figsize=(width, 0.5 + _ROW * sum(heights)))
    axes = figure.add_axes(
        (0.52, 0.4 / (0.5 + _ROW * sum(heights)), 0.46, 1 - 0.45 / (0.5 + _ROW * sum(heights)))
    )
    axes.axvline(0, color="#9aa0a8", linewidth=0.6)
    for (_, answer), y in zip(rows, places, strict=True):
        _mark(axes, answer, y)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0, labelsize=6)
    axes.set_ylim(sum(heights), 0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("against the claim  ←  difference  →  for the claim", fontsize=6)
    return figure


def _label(claim: str, answer: Answer, letters: int) -> str:
    return "\n".join(textwrap.wrap(f"{claim}: {answer.question.text}", letters))


def _mark(axes, answer: Answer, y: float) -> None:  # type: ignore[no-untyped-def]
    if answer.result is None:
        return
    question, found = answer.question, answer.result.estimate
    colour = _COLOURS.get(answer.verdict, _OTHER)
    middle = question.direction * (found.mean - question.against)
    if found.has_interval:
        ends = [question.direction * (end - question.against) for end in (found.low, found.high)]
        axes.plot(ends, [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")
    axes.plot([middle], [y], marker="o", markersize=3.2, color=colour)
