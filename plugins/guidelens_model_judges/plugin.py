"""Register the metrics ``judge``, ``vqascore``, ``facts`` and ``realism``, and the study ``judges``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from guidelens.contracts import Metric
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, RegisterStudies, hookimpl
from guidelens.plugins import Component

if TYPE_CHECKING:
    from guidelens.metrics.questions import YesNoModel


def _judge(
    guidance: Annotated[Component, "guidance"],
    objectives: str = "",
    probability: bool = False,
    facts: bool = False,
    device: str = "auto",
) -> Metric:
    """Score pictures by a guidance model's objectives.

    :param guidance: the guidance model, in quotes if its spelling has a comma.
    :param objectives: the objectives, joined by ``+`` (``itm+cap``); default: all.
    :param probability: exp(-loss) instead of -loss, in columns ``p-OBJECTIVE@MODEL``.
    :param facts: also score each fact of the prompt as a caption; their means are columns OBJECTIVE-facts@MODEL.
    :param device: device of the guidance model: auto, cpu, cuda, cuda:N or mps.
    """
    import torch
    from guidelens.metrics.judge import Judge
    from guidelens.networks import place, resolve_device

    where = resolve_device(device)
    model = place(guidance.build(), where, torch.float32)
    wanted = [name.strip() for name in objectives.split("+") if name.strip()]
    return Judge(model, guidance.spec, wanted or None, probability=probability, facts=facts, device=where)


def _vqascore(
    guidance: Annotated[Component, "guidance"], objective: str = "", device: str = "auto"
) -> Metric:
    """Score pictures by the probability that a model says yes to the prompt.

    :param guidance: a guidance model with vqa or itm; in quotes where its spelling has a comma.
    :param objective: vqa or itm; default: vqa if the model has it.
    :param device: where it judges: auto, cpu, cuda, cuda:N or mps.
    """
    from guidelens.metrics.facts import VqaScore

    return VqaScore(_yes_no(guidance, objective, device))


def _facts(
    guidance: Annotated[Component, "guidance"],
    objective: str = "",
    threshold: float = 0.5,
    device: str = "auto",
) -> Metric:
    """Score pictures by yes/no questions about each assertion of the prompt: objects, attributes, counts, relations.

    :param guidance: a guidance model with vqa or itm; in quotes where its spelling has a comma.
    :param objective: vqa or itm; default: vqa if the model has it.
    :param threshold: least probability of a yes, between 0 and 1.
    :param device: where it judges: auto, cpu, cuda, cuda:N or mps.
    """
    from guidelens.metrics.facts import FactsMetric

    if not 0 < threshold < 1:
        raise UsageError(f"threshold must be between 0 and 1, not {threshold}")
    return FactsMetric(_yes_no(guidance, objective, device), threshold)


def _realism(
    guidance: Annotated[Component, "guidance"], scale: float = 100.0, device: str = "auto"
) -> Metric:
    """Score how much nearer pictures are to "Good photo." than to "Bad photo.", without a reference (CLIP-IQA).

    :param guidance: a guidance model with itc, such as CLIP; in quotes where its spelling has a comma.
    :param scale: factor of the cosines in the softmax; 1 for a model whose itc has the learned temperature.
    :param device: where it judges: auto, cpu, cuda, cuda:N or mps.
    """
    import torch
    from guidelens.metrics.realism import Realism
    from guidelens.networks import place, resolve_device

    where = resolve_device(device)
    model = place(guidance.build(), where, torch.float32)
    return Realism(model, guidance.spec, scale, device=where)


def _yes_no(guidance: Component, objective: str, device: str) -> YesNoModel:
    """Build a guidance model on its device, as a model that answers yes/no questions."""
    import torch
    from guidelens.metrics.questions import YesNoModel
    from guidelens.networks import place, resolve_device

    where = resolve_device(device)
    model = place(guidance.build(), where, torch.float32)
    return YesNoModel(model, guidance.spec, objective, device=where)


@hookimpl
def register_metrics(register: Register) -> None:
    """Register ``judge``, ``vqascore``, ``facts`` and ``realism``."""
    register(
        "judge", _judge, summary="a guidance model's objectives as scores: itm@MODEL", requires=("torch",)
    )
    register(
        "vqascore",
        _vqascore,
        summary="probability that a guidance model (vqa or itm) says yes to the prompt",
        requires=("torch",),
    )
    register(
        "facts",
        _facts,
        summary="yes/no questions about each assertion of a prompt: recall, binding, relation, count",
        requires=("torch",),
    )
    register(
        "realism",
        _realism,
        summary="photo quality of single pictures without a reference (CLIP-IQA), by a model with itc",
        requires=("torch",),
    )


@hookimpl
def register_studies(register: RegisterStudies) -> None:
    """Register ``judges``."""
    path = Path(__file__).parent / "studies" / "judges.toml"
    register(
        "judges",
        path,
        summary="guidance models score each other's pictures, on the shapes world, 216 pictures",
    )
