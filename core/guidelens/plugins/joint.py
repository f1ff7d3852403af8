"""Several guidance models in one spelling, ``blip,open-clip:pretrained=openai``: one component whose parts they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from guidelens.errors import UsageError

from .components import Component, ComponentInfo

if TYPE_CHECKING:
    from guidelens.joint_guidance import JointGuidance

JOINED = "guidance"
"""The kind of component of which a spelling may name several."""


def join(specs: Sequence[str], resolve: Callable[[str, str], Component]) -> Component:
    """Return the component that builds all parts, as :class:`~guidelens.joint_guidance.JointGuidance`.

    Its objectives begin with the parts' names; a name that comes again is numbered: ``blip``, ``blip2``.

    :param resolve: returns the component of a kind by its spelling.
    :raises UsageError: for a part that is none.
    """
    parts = [_part(spec, resolve) for spec in specs]
    names: list[str] = []
    for part in parts:
        same = sum(other.info.name == part.info.name for other in parts[: len(names)])
        names.append(part.info.name if same == 0 else f"{part.info.name}{same + 1}")
    info = ComponentInfo(
        kind=JOINED,
        name=",".join(names),
        plugin=parts[0].info.plugin,
        dist="",
        summary=f"{len(parts)} guidance models as one",
        factory=partial(_build, tuple(zip(names, parts, strict=True))),
    )
    return Component(info, {}, ",".join(part.spec for part in parts), tuple(parts))


def _part(spec: str, resolve: Callable[[str, str], Component]) -> Component:
    try:
        return resolve(JOINED, spec)
    except UsageError as error:
        if ":" in spec:
            raise
        raise UsageError(
            f"{error} (a comma separates guidance models; put a value that holds one in quotes)"
        ) from None


def _build(parts: Sequence[tuple[str, Component]]) -> JointGuidance:
    from guidelens.joint_guidance import JointGuidance

    return JointGuidance({name: part.build() for name, part in parts})
