"""F1 to F6: the claims of Kong & Kwak (2023), *Analyzing Multimodal Objectives Through the Lens of Generative
Diffusion Guidance*, as questions.

Fixed before any study was looked at: which numbers, which sign, which are tested. Human scores, which the paper has
as well for F6, are not measured.
"""

from __future__ import annotations

from .conditions import Condition
from .questions import ALIGNMENT, COSINE, FIDELITY, Claim, Question, Term, difference, interaction

ITC, ITM, CAP = Condition("itc"), Condition("itm"), Condition("cap")
SHIFT, BLEND = Condition("shift:cap,itc"), Condition("blend:cap,itc")
COSINES = (f"{COSINE}cap|itc",)


def _typos(resists: str, other: str, edits: int | None = None) -> tuple[Term, ...]:
    """Return what perturbing costs ``other``, less what it costs ``resists``."""
    of = {} if edits is None else {"edits": edits}
    sides = ((1.0, resists), (-1.0, other))
    return tuple(
        Term(factor * sign, Condition(role, perturbed, of if perturbed else {}), ALIGNMENT)
        for factor, role in sides
        for sign, perturbed in ((1.0, True), (-1.0, False))
    )


def _steps(other: str, column: tuple[str, ...], dose: str) -> tuple[Term, ...]:
    at = {"dose": dose}
    return difference(Condition("cap", False, at), Condition(other, False, at), column)


F1 = Claim(
    "F1",
    "ITC perfects the salient object and drops others; CAP composes the scene",
    (
        Question(
            "F1.order",
            "what is named later fares better, against what is named first, under CAP than under ITC",
            interaction(CAP, ITC, ("recall_rest",), ("recall_first",)),
        ),
        Question(
            "F1.size",
            "what is small fares better, against what is large, under CAP than under ITC",
            interaction(CAP, ITC, ("recall_small",), ("recall_large",)),
        ),
        Question("F1.scene", "CAP shows more of the whole prompt than ITC", difference(CAP, ITC, ALIGNMENT)),
    ),
    "Salience is taken as being named first, or as large; a picture that shows nothing counts for neither.",
)

F2 = Claim(
    "F2",
    "ITC fuses semantics: the right attribute on the wrong object",
    tuple(
        Question(
            f"F2.{name}",
            f"where attribute and object both appear, {name.upper()} joins them rightly more often than ITC",
            difference(side, ITC, ("binding_shown",)),
        )
        for name, side in (("cap", CAP), ("itm", ITM))
    ),
    "Only pairs of pictures that both show something to bind count, so hard prompts may drop out.",
)

F3 = Claim(
    "F3",
    "cross-attention to patch tokens (ITM, CAP) gives fine-grained understanding",
    tuple(
        Question(
            f"F3.{column}.{name}",
            f"{name.upper()} gets the {column} right more often than ITC",
            difference(side, ITC, (column,)),
        )
        for column in ("relation", "binding")
        for name, side in (("itm", ITM), ("cap", CAP))
    ),
    "A relation or binding can only be right where the objects are there: part of a difference is recall.",
)

F4 = Claim(
    "F4",
    "dense supervision (CAP) resists noisy text",
    (
        *(
            Question(
                f"F4.{other}",
                f"a perturbed prompt costs CAP less alignment to the clean prompt than {other.upper()}",
                _typos("cap", other),
            )
            for other in ("itc", "itm")
        ),
        *(
            Question(
                f"F4.{other}.{n}",
                f"the same, prompts {n} edit{'s' if n > 1 else ''} away",
                _typos("cap", other, n),
                exploratory=True,
            )
            for other in ("itc", "itm")
            for n in (1, 2)
        ),
    ),
    "An objective that fails on clean prompts has little to lose.",
)

F5 = Claim(
    "F5",
    "CAP needs more sampling steps than ITC or ITM",
    tuple(
        Question(
            f"F5.{column[0]}.{other}" + ("" if dose == "matched" else ".plain"),
            f"each doubling of the steps gains CAP more {column[0]} than {other.upper()}, "
            + ("at equal dose" if dose == "matched" else "at constant scale"),
            _steps(other, column, dose),
            over="steps",
            exploratory=dose != "matched",
        )
        for dose in ("matched", "plain")
        for column in (ALIGNMENT, FIDELITY)
        for other in ("itc", "itm")
    ),
    "At a constant scale short runs are under-dosed, which alone makes all objectives gain by steps.",
)

F6 = Claim(
    "F6",
    "SHIFT beats ITC in realism and alignment, and CAP in realism; BLEND is worst because its signals conflict",
    (
        Question("F6.shift-itc.fidelity", "SHIFT looks better than ITC", difference(SHIFT, ITC, FIDELITY)),
        Question("F6.shift-itc.alignment", "SHIFT fits better than ITC", difference(SHIFT, ITC, ALIGNMENT)),
        Question("F6.shift-cap.fidelity", "SHIFT looks better than CAP", difference(SHIFT, CAP, FIDELITY)),
        *(
            Question(
                f"F6.blend-{name}.{column[0]}",
                f"BLEND {verb} worse than {name.upper()}",
                difference(BLEND, side, column),
                direction=-1,
                exploratory=column is FIDELITY,
            )
            for column, verb in ((ALIGNMENT, "fits"), (FIDELITY, "looks"))
            for name, side in (("itc", ITC), ("cap", CAP), ("shift", SHIFT))
        ),
        Question(
            "F6.conflict",
            "under BLEND the gradients of ITC and CAP point apart: their mean cosine is negative",
            (Term(1.0, BLEND, COSINES),),
            direction=-1,
        ),
    ),
    "Realism is an automatic score here; the paper's human scores are not measured.",
)

CLAIMS = (F1, F2, F3, F4, F5, F6)
