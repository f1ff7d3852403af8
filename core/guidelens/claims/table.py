"""Format verdicts as lines of text or as JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from guidelens.words import plural

from .evaluate import NOT_MEASURED, Answer, Verdict


def verdict_lines(verdicts: Sequence[Verdict], *, everything: bool = False) -> list[str]:
    """Return verdicts as text for a terminal: one line per claim, then one per question.

    :param everything: list the questions that were not measured, with what they need. Otherwise only count them.
    """
    result = []
    for verdict in verdicts:
        result.append(f"{verdict.claim.id}  {verdict.headline.upper()}: {verdict.claim.text}")
        missing = [answer for answer in verdict.answers if answer.result is None]
        result += [
            f"  {_line(answer, verdict.interim)}" for answer in verdict.answers if answer.result is not None
        ]
        if everything:
            result += [f"  {NOT_MEASURED:<13} {a.question.text}: {a.needs}" for a in missing]
        elif missing:
            result.append(f"  {NOT_MEASURED:<13} {plural(len(missing), 'question')} (--all lists them)")
    return result


def _line(answer: Answer, interim: bool) -> str:
    """Write a measured question: its verdict, what it asks, and the numbers."""
    result = answer.result
    assert result is not None
    mean = result.estimate
    interval = f" ({mean.low:+.2f} to {mean.high:+.2f})" if mean.has_interval else ""
    against = f" against {answer.question.against:g}" if answer.question.against else ""
    tested = f"p {_p(result.p)}" if math.isnan(answer.adjusted) else f"corrected p {_p(answer.adjusted)}"
    note = f" [{answer.note}]" if answer.note else ""
    pairs = f"{plural(mean.n, 'pair')} of {plural(answer.prompts, 'prompt')}"
    verdict = f"{answer.verdict}{' (interim)' if interim else ''}"
    return (
        f"{verdict:<13} {answer.question.text}: {mean.mean:+.2f}{interval}{against}, {pairs}, {tested}{note}"
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "below 0.001"


def as_dicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as JSON values. NaN becomes None."""
    return [
        {
            "claim": verdict.claim.id,
            "text": verdict.claim.text,
            "source": verdict.claim.source,
            "verdict": verdict.verdict,
            "interim": verdict.interim,
            "parts": verdict.parts,
            "caveat": verdict.claim.caveat,
            "questions": [_as_dict(answer) for answer in verdict.answers],
        }
        for verdict in verdicts
    ]


def _as_dict(answer: Answer) -> dict[str, Any]:
    question = answer.question
    found: dict[str, Any] = {
        "question": question.id,
        "text": question.text,
        "predicted_sign": question.direction,
        "against": question.against,
        "exploratory": question.exploratory,
        "planned": answer.planned,
        "verdict": answer.verdict,
        "needs": answer.needs,
        "note": answer.note,
    }
    if answer.result is None:
        return found
    result, mean = answer.result, answer.result.estimate
    numbers = {
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "p": result.p,
        "adjusted_p": answer.adjusted,
        "effect": result.effect,
        "pairs_needed": result.needed,
    }
    return {
        **found,
        "column": answer.column,
        "pairs": mean.n,
        "prompts": answer.prompts,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
    }
