"""Register the metric ``judge``, and the study ``judges``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from guidelens.contracts import Metric
from guidelens.hookspecs import Register, RegisterStudies, hookimpl
from guidelens.plugins import Component


def _judge(
    guidance: Annotated[Component, "guidance"],
    objectives: str = "",
    probability: bool = False,
    device: str = "auto",
) -> Metric:
    """Score pictures by a guidance model's objectives.

    :param guidance: the guidance model, in quotes if its spelling has a comma.
    :param objectives: the objectives, joined by ``+`` (``itm+cap``); default: all.
    :param probability: exp(-loss) instead of -loss, in columns ``p-OBJECTIVE@MODEL``.
    :param device: device of the guidance model: auto, cpu, cuda, cuda:N or mps.
    """
    import torch
    from guidelens.metrics.judge import Judge
    from guidelens.networks import place, resolve_device

    where = resolve_device(device)
    model = place(guidance.build(), where, torch.float32)
    wanted = [name.strip() for name in objectives.split("+") if name.strip()]
    return Judge(model, guidance.spec, wanted or None, probability=probability, device=where)


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer ``judge``."""
    register(
        "judge", _judge, summary="a guidance model's objectives as scores: itm@MODEL", requires=("torch",)
    )


@hookimpl
def register_studies(register: RegisterStudies) -> None:
    """Offer ``judges``."""
    path = Path(__file__).parent / "studies" / "judges.toml"
    register(
        "judges",
        path,
        summary="guidance models score each other's pictures, on the shapes world, 216 pictures",
    )
