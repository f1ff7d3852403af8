"""Verdicts as lines of text, and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from guidelens.words import plural

from .evaluate import NOT_MEASURED, Answer, Verdict


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Write verdicts for a terminal: two lines per claim, and one per question below them."""
    width = max((len(a.question.id) for v in verdicts for a in v.answers), default=0)
    result = []
    for verdict in verdicts:
        result.append(f"{verdict.claim.id}  {verdict.headline.upper()}: {verdict.claim.text}")
        result.append(f"  {verdict.of_which_parts}")
        result += [f"  {a.question.id:<{width}}  {_line(a, verdict.interim)}" for a in verdict.answers]
    return result


def _line(answer: Answer, interim: bool) -> str:
    if answer.result is None:
        return f"{NOT_MEASURED}: {answer.needs}"
    result, mean = answer.result, answer.result.estimate
    interval = f" ({mean.low:+.2f} to {mean.high:+.2f})" if mean.has_interval else ""
    against = f" against {answer.question.against:g}" if answer.question.against else ""
    tested = f"p {_p(result.p)}" if math.isnan(answer.adjusted) else f"corrected p {_p(answer.adjusted)}"
    needed = f", needs about {math.ceil(result.needed)} pairs" if result.needed < 1e6 else ""
    note = f" [{answer.note}]" if answer.note else ""
    pairs = f"{plural(mean.n, 'pair')} of {plural(answer.prompts, 'prompt')}"
    numbers = f"{mean.mean:+.2f}{interval}{against}, {pairs}"
    verdict = f"{answer.verdict}{' (interim)' if interim else ''}"
    return f"{verdict:<12} {numbers}, {tested}{needed}{note}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "below 0.001"


def as_dicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as JSON has them; numbers that do not exist are None."""
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
