"""Verdicts as a LaTeX table, for \\input."""

from __future__ import annotations

import math
from collections.abc import Sequence

from guidelens.claims.evaluate import Answer, Verdict

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "×": r"$\times$",
}


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Return a ``tabular`` with a line per question. It needs the package booktabs."""
    lines = [
        "% Made by guidelens figure; needs \\usepackage{booktabs}.",
        r"\begin{tabular}{llrrrl}",
        r"\toprule",
        r"Claim & Question & Mean & 95\,\% interval & $p$ (Holm) & Verdict \\",
    ]
    for verdict in verdicts:
        lines.append(r"\midrule")
        for i, answer in enumerate(verdict.answers):
            lines.append(_line(escape(verdict.claim.id) if i == 0 else "", answer, verdict.interim))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Escape the special characters of LaTeX in a text."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _line(claim: str, answer: Answer, interim: bool) -> str:
    verdict = f"{answer.verdict}{' (interim)' if interim and answer.result else ''}"
    cells = [claim, escape(answer.question.part)]
    if answer.result is None:
        return " & ".join([*cells, "--", "--", "--", escape(verdict)]) + r" \\"
    mean = answer.result.estimate
    interval = f"{_number(mean.low)} to {_number(mean.high)}" if mean.has_interval else "--"
    p = "--" if math.isnan(answer.adjusted) else _p(answer.adjusted)
    return " & ".join([*cells, _number(mean.mean), interval, p, escape(verdict)]) + r" \\"


def _number(value: float) -> str:
    return f"${value:+.2f}$"


def _p(value: float) -> str:
    return f"${value:.3f}$" if value >= 0.0005 else "$<0.001$"
