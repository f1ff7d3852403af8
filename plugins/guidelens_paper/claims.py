"""F1 to F6: the claims of Kong & Kwak (2023), *Analyzing Multimodal Objectives Through the Lens of Generative
Diffusion Guidance*, as questions.

Every comparison that the paper implies is a question. No other comparison is. The paper also has human scores for F6;
surveys collect those.
"""

from __future__ import annotations

from typing import Literal

from guidelens.claims.conditions import Condition
from guidelens.claims.questions import (
    Claim,
    Measure,
    Question,
    Term,
    conflict,
    cosine,
    difference,
    opposed,
    role,
)

SOURCE = "Kong & Kwak (2023)"

ITC, ITM, CAP = Condition("itc"), Condition("itm"), Condition("cap")
SHIFT, BLEND = Condition("shift:cap,itc"), Condition("blend:cap,itc")
PATTERNS = {"itc": ITC, "itm": ITM, "cap": CAP, "shift": SHIFT, "blend": BLEND}

ALIGNMENT, REALISM = role("alignment"), role("realism")

OFTEN = 0.25
"""Two signals are *often* in conflict if their gradients have a negative cosine at more than this share of the steps.
The paper gives no number. Half would mean "mostly", which is the question about a negative mean. A quarter is our
interpretation."""


def _less(high: str, low: str, measure: Measure, name: str, text: str) -> Question:
    """Return the question whether ``high`` exceeds ``low``."""
    sides = difference(PATTERNS[high], PATTERNS[low], measure)
    return Question(name, text.format(high=high.upper(), low=low.upper()), sides)


F1 = Claim(
    "F1",
    "ITC forms fine details of the salient object and leaves others out; CAP composes the whole scene",
    (
        _less(
            "itc", "cap", role("detail_main"), "F1.detail", "{high} gives the main object more of its details"
        ),
        _less(
            "cap",
            "itc",
            role("recall_rest"),
            "F1.others",
            "{high} shows more of the other objects than {low}",
        ),
        _less("cap", "itc", ALIGNMENT, "F1.scene", "{high} shows more of the whole prompt than {low}"),
    ),
    SOURCE,
    "The main object is taken to be the one named first.",
)

F2 = Claim(
    "F2",
    "ITC fuses semantics: the right attribute on the wrong object. CAP relates them",
    (
        _less(
            "cap",
            "itc",
            role("binding_shown"),
            "F2.binding",
            "where attribute and object both appear, {high} joins them rightly more often than {low}",
        ),
    ),
    SOURCE,
    "Only pairs of pictures that both show something to bind count, so hard prompts may drop out.",
)

F3 = Claim(
    "F3",
    "cross-attention to patch tokens (ITM, CAP, SHIFT) gives fine-grained understanding; ITM at a lower visual quality",
    (
        *(
            _less(
                high,
                "itc",
                role(name),
                f"F3.{name}.{high}",
                f"{{high}} gets the {name} right more often than {{low}}",
            )
            for name in ("relation", "binding")
            for high in ("itm", "cap", "shift")
        ),
        *(
            _less(other, "itm", REALISM, f"F3.realism.{other}", "{high} looks more real than {low}")
            for other in ("itc", "cap", "shift")
        ),
    ),
    SOURCE,
    "A relation or binding can only be right where the objects are there: part of a difference is recall.",
)


def _typos(resists: str, edits: int | None = None) -> tuple[Term, ...]:
    """Return ITC's loss of alignment to the clean prompt due to perturbation, minus that of ``resists``."""
    of = {} if edits is None else {"edits": edits}
    return tuple(
        Term(factor * sign, Condition(PATTERNS[side].pattern, perturbed, of if perturbed else {}), ALIGNMENT)
        for factor, side in ((1.0, resists), (-1.0, "itc"))
        for sign, perturbed in ((1.0, True), (-1.0, False))
    )


F4 = Claim(
    "F4",
    "dense supervision resists noisy text",
    (
        *(
            Question(
                f"F4.{resists}",
                f"a perturbed prompt costs ITC more alignment to the clean prompt than {resists.upper()}",
                _typos(resists),
            )
            for resists in ("itm", "cap", "shift")
        ),
        *(
            Question(
                f"F4.{resists}.{n}",
                f"{'one edit costs' if n == 1 else f'{n} edits cost'} ITC more alignment than {resists.upper()}",
                _typos(resists, n),
                exploratory=True,
            )
            for resists in ("itm", "cap", "shift")
            for n in (1, 2)
        ),
    ),
    SOURCE,
    "An objective that fails on clean prompts has little to lose.",
)


_FEW_AGAINST_MANY: tuple[tuple[float, Literal["fewest", "most"]], ...] = ((1.0, "fewest"), (-1.0, "most"))


def _few_steps(quick: str, slow: str, dose: str) -> tuple[Term, ...]:
    """Return the loss of realism of ``slow`` from many to few steps, minus that of ``quick``."""
    return tuple(
        Term(factor * sign, Condition(PATTERNS[side].pattern, columns={"dose": dose}), REALISM, steps)
        for factor, side in ((1.0, quick), (-1.0, slow))
        for sign, steps in _FEW_AGAINST_MANY
    )


F5 = Claim(
    "F5",
    "CAP is optimised more slowly: ITC and ITM give realistic samples with fewer steps",
    tuple(
        Question(
            f"F5.{quick}-{slow}" + ("" if dose == "matched" else ".plain"),
            f"few steps cost {slow.upper()} more of the realism that it reaches at many than {quick.upper()}, at "
            + ("equal dose" if dose == "matched" else "constant scale"),
            _few_steps(quick, slow, dose),
            exploratory=dose != "matched",
        )
        for dose in ("matched", "plain")
        for quick in ("itc", "itm")
        for slow in ("cap", "shift")
    ),
    SOURCE,
    "Few and many are the smallest and the largest number of steps in the study. At a constant scale short runs are "
    "under-dosed, which alone makes all objectives gain by steps.",
)

F6 = Claim(
    "F6",
    "SHIFT beats ITC in realism and alignment; CAP aligns better than SHIFT, which looks more real; BLEND is worst, "
    "and its two signals are often in conflict",
    (
        _less("shift", "itc", REALISM, "F6.shift-itc.realism", "{high} looks more real than {low}"),
        _less("shift", "itc", ALIGNMENT, "F6.shift-itc.alignment", "{high} fits better than {low}"),
        _less("shift", "cap", REALISM, "F6.shift-cap.realism", "{high} looks more real than {low}"),
        _less("cap", "shift", ALIGNMENT, "F6.cap-shift.alignment", "{high} fits better than {low}"),
        *(
            _less(other, "blend", measure, f"F6.{other}-blend.{measure}", f"{{high}} {verb} than {{low}}")
            for measure, verb in ((ALIGNMENT, "fits better"), (REALISM, "looks more real"))
            for other in ("shift", "itc", "cap")
        ),
        Question(
            "F6.conflict",
            "under BLEND the gradients of ITC and CAP have a negative cosine at more than a quarter of the steps",
            (Term(1.0, BLEND, conflict("cap", "itc")),),
            against=OFTEN,
        ),
        Question(
            "F6.conflict.pictures",
            "the share of pictures in which that cosine is negative on average",
            (Term(1.0, BLEND, opposed("cap", "itc")),),
            exploratory=True,
        ),
        Question(
            "F6.conflict.mean",
            "the mean of that cosine (negative: the signals point apart on average)",
            (Term(1.0, BLEND, cosine("cap", "itc")),),
            direction=-1,
            exploratory=True,
        ),
    ),
    SOURCE,
    "Realism is an automatic score here; the paper's human scores are not measured.",
)

CLAIMS = (F1, F2, F3, F4, F5, F6)
