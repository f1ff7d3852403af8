"""Invented results of studies, in which the answer to every question is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from guidelens.claims.evaluate import Answer, Verdict

PROMPTS = 16
WEIGHTS = {
    "itc": {"itc": [1.0, 1.0, 1.0]},
    "itm": {"itm": [1.0, 1.0, 1.0]},
    "cap": {"cap": [1.0, 1.0, 1.0]},
    "mine": {"cap": [1.0, 0.5, 0.0], "itc": [0.0, 0.5, 1.0]},
    "both": {"cap": [0.5, 0.5, 0.5], "itc": [0.5, 0.5, 0.5]},
}
"""Schedules by name: ``mine`` is SHIFT, ``both`` is BLEND."""

ROLES = (
    *("alignment", "realism", "relation", "binding", "binding_shown"),
    *("detail_main", "recall_rest"),
)

Scores = Callable[[dict[str, Any]], dict[str, float]]
"""The scores of a cell, by role."""


def cell(number: int, schedule: str, **changes: Any) -> dict[str, Any]:
    """Return a row of a study's table."""
    clean = f"prompt {number}"
    base = {
        "grid": "g",
        "key": f"{number}-{schedule}-{sorted(changes.items())}",
        "pair": f"{number}",
        "prompt": clean,
        "clean": clean,
        "schedule": schedule,
        "seed": 0,
        "status": "done",
        "perturbation": "none",
        "edits": 0,
        "reference": None,
        "respacing": "",
        "options": {},
        "objective_scales": {},
        "cosines": {},
        "conflicts": {},
        "metrics": {},
        **dict.fromkeys(("generator", "guidance", "preset", "sampler", "eta", "scale"), ""),
        "steps": 50,
    }
    return {**base, **changes}


def study(
    cells: Sequence[dict[str, Any]],
    scores: Scores,
    grids: list[dict[str, Any]] | None = None,
    roles: Sequence[str] = ROLES,
) -> Any:
    """Return a study whose metric calls its columns ``my_ROLE``: no claim can know them by name."""
    rng = np.random.default_rng(0)
    for c in cells:
        noise = 0.02 * rng.standard_normal()
        c["metrics"] = {f"my_{role}": value + noise for role, value in scores(c).items() if role in roles}
    config = {
        "schedules": [{"name": name, "weights": weights} for name, weights in WEIGHTS.items()],
        "metrics": [
            {
                "name": "m",
                "columns": [{"name": f"my_{r}", "role": r, "higher_is_better": True} for r in roles],
            }
        ],
        "grids": grids or [],
    }
    return SimpleNamespace(config=config, cells=cells)


def plain(*schedules: str) -> list[dict[str, Any]]:
    """Return a cell of every prompt and schedule."""
    return [cell(p, s) for p in range(PROMPTS) for s in schedules]


def everything() -> list[dict[str, Any]]:
    """Return the cells of a study that measures every claim of the paper."""
    cells = plain(*WEIGHTS)
    for p in range(PROMPTS):
        for s in ("itc", "itm", "cap", "mine"):
            cells += [cell(p, s, perturbation=f"typo:{n}", edits=n, prompt=f"{n} {p}") for n in (1, 2)]
            cells += [
                cell(p, s, steps=n, options={"dose": dose})
                for n in (10, 20, 50)
                for dose in ("plain", "matched")
            ]
    return cells


def found(verdicts: list[Verdict], question: str) -> Answer:
    """Return the answer to a question."""
    return next(a for v in verdicts for a in v.answers if a.question.id == question)


def claim(verdicts: list[Verdict], name: str) -> Verdict:
    """Return the verdict on a claim."""
    return next(v for v in verdicts if v.claim.id == name)


def jitter(c: dict[str, Any], name: str) -> float:
    """Return noise of a cell's own."""
    seed = [ord(x) for x in f"{c['key']}{name}"]
    return 0.05 * float(np.random.default_rng(seed).standard_normal())
