"""Register the schedules: no guidance, each objective alone, ``shift``, ``blend`` and ``curve``."""

from __future__ import annotations

from functools import partial

from guidelens.hookspecs import Register, hookimpl

from .curve import curve
from .schedules import PAPER_OBJECTIVES, Blend, Shift, SingleObjective, Unguided


@hookimpl
def register_schedules(register: Register) -> None:
    """Register ``none``, ``itc``, ``itm``, ``cap``, ``objective``, ``shift``, ``blend`` and ``curve``."""
    register("none", Unguided, summary="no guidance: what the generator draws by itself")
    for name, summary in PAPER_OBJECTIVES.items():
        register(name, partial(_alone, name), summary=summary)
    register("objective", SingleObjective, summary="a single objective (objective:name=NAME)")
    register("shift", Shift, summary="linear change from one objective to another; default: from cap to itc")
    register("blend", Blend, summary="constant weights of several objectives; default: itc=0.5,cap=0.5")
    register(
        "curve",
        curve,
        summary="weights drawn as curves over progress (curve:itc=0@0/1@1,cap=1@0/0@1)",
        default=False,
    )


def _alone(name: str, /) -> SingleObjective:
    return SingleObjective(name)
