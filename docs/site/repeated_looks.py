"""How often a study of nothing but chance supports or contradicts a claim, when it is looked at while it grows.

Simulates studies in which no question has an effect, with the tests and the correction of docs/studies.md, and prints
the share of studies in which some verdict was ever supported or contradicted. Run: python docs/site/repeated_looks.py
"""

from __future__ import annotations

import numpy as np
from guidelens.claims.statistics import ALPHA, holm

STUDIES = 2000
QUESTIONS = 20
PROMPTS = 48
LOOKS = 9
FLIPS = 1999


def p_values(values: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return the two-sided p of the sign-flip test for each question.

    :param values: a difference per prompt and question, (N, Q).
    :param signs: random signs, (F, N).
    """
    observed = np.abs(values.sum(axis=0))
    flipped = np.abs(signs @ values)
    return np.asarray((1 + (flipped >= observed - 1e-12).sum(axis=0)) / (1 + len(signs)))


def decides(p: np.ndarray, planned: int) -> bool:
    """Whether any question comes out significant, corrected for ``planned`` questions; those to come count as p = 1."""
    padded = [*p.tolist(), *[1.0] * (planned - len(p))]
    return min(holm(padded)) <= ALPHA if padded else False


def simulate() -> dict[str, float]:
    """Return the share of studies with a wrong verdict, by when and how they were looked at."""
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(
        (
            "the finished study",
            "any of nine looks, all grids in turn",
            "any of nine looks, grid by grid",
            "any of nine looks, grid by grid, corrected for the questions answered so far",
        ),
        0,
    )
    for _ in range(STUDIES):
        values = rng.standard_normal((PROMPTS, QUESTIONS))
        signs = rng.choice((-1.0, 1.0), (FLIPS, PROMPTS))
        whole = p_values(values, signs)
        finished = decides(whole, QUESTIONS)
        shares = [look / LOOKS for look in range(1, LOOKS + 1)]
        growing, ordered, answered = finished, finished, finished
        for share in shares[:-1]:
            prompts, questions = round(PROMPTS * share), round(QUESTIONS * share)
            growing = growing or decides(p_values(values[:prompts], signs[:, :prompts]), QUESTIONS)
            ordered = ordered or decides(whole[:questions], QUESTIONS)
            answered = answered or decides(whole[:questions], questions)
        for name, wrong in zip(counts, (finished, growing, ordered, answered), strict=True):
            counts[name] += wrong
    return {name: count / STUDIES for name, count in counts.items()}


if __name__ == "__main__":
    for name, share in simulate().items():
        print(f"{share:.3f}  {name}")  # noqa: T201  # the output of this script
