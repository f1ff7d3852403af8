"""The page of a probe: accuracy and gradients of every objective by category, and the pairs it was wrong about."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from guidelens.analysis.probe import Probe
from guidelens.colours import palette
from guidelens.contracts import Prompt
from guidelens.pictures import png_bytes, to_picture
from guidelens.stats import Estimate

from .curves import Curve, interval_chart
from .grid import fit
from .page import page_environment

if TYPE_CHECKING:
    from torch import Tensor

MOST_SHOWN = 24
"""Pairs with pictures on the page."""

_SIDE = 160


@dataclass(frozen=True)
class _Panel:
    """A question, its answers by category and objective, and the chart of them."""

    title: str
    meaning: str
    chance: str
    rows: list[tuple[str, list[Estimate]]]
    chart: Markup


_MatrixRow = tuple[str, list["tuple[Estimate, Estimate] | None"]]
"""An objective, and for each model its accuracy and cosine; None for a model without the objective."""


@dataclass(frozen=True)
class _PairView:
    """A pair of the page. ``verdicts`` has (objective, colour, margin) of each objective."""

    pair: Prompt
    source: str
    verdicts: list[tuple[str, int, float]]


_QUESTIONS = (
    (
        "accuracy",
        "Which caption is right?",
        "Share of pairs for which the loss of the right caption is lower.",
        "chance: 0.5",
    ),
    (
        "moves_away",
        "Does the right caption lead away from the wrong one?",
        "Share of pairs for which the gradients towards the two captions have a negative cosine: a small step towards "
        "the right caption moves away from the wrong one.",
        "",
    ),
    (
        "cosine",
        "How alike are the two gradients?",
        "Mean cosine of the gradients towards the right and towards the wrong caption. At 1 the objective asks for the "
        "same change of the picture, whichever caption it reads.",
        "unrelated: 0",
    ),
    (
        "raises_margin",
        "Does a step towards the right caption help to tell them apart?",
        "Share of pairs for which a small step towards the right caption raises the margin, the loss of the wrong "
        "caption minus that of the right one.",
        "",
    ),
)


def render_probe(
    probe: Probe,
    models: Mapping[str, str],
    pairs: str,
    picture_of: Callable[[Prompt], Tensor],
    command: str = "",
) -> str:
    """Return the page as self-contained HTML.

    :param models: name of each guidance model in the objectives -> its spelling. One model has the name "".
    :param pairs: spelling of the pairs.
    :param picture_of: returns the picture of a pair, (3, H, W) in [-1, 1].
    :param command: the command line, shown for repetition.
    """
    colours = palette(probe.objectives)
    return str(
        page_environment()
        .get_template("probe.html.j2")
        .render(
            probe=probe,
            model=" and ".join(models.values()),
            models=models,
            matrix=_matrix(probe, list(models)),
            pairs=pairs,
            command=command,
            colours=colours,
            panels=[_panel(probe, colours, *question) for question in _QUESTIONS],
            agreement=[(both, probe.agreement(both), probe.conflicts(both)) for both in probe.opposites],
            margins=[(name, probe.margin(name)) for name in probe.objectives],
            shown=_shown(probe, colours, picture_of),
        )
    )


def _matrix(probe: Probe, models: Sequence[str]) -> list[_MatrixRow]:
    """Return a row for each objective, with a field for each model; empty for one model."""
    if len(models) < 2:
        return []
    return [
        (
            objective,
            [None if m not in names else (probe.accuracy(names[m]), probe.cosine(names[m])) for m in models],
        )
        for objective, names in probe.by_model.items()
    ]


def _panel(
    probe: Probe, colours: Mapping[str, int], measure: str, title: str, meaning: str, chance: str
) -> _Panel:
    ask: Callable[[str, str | None], Estimate] = getattr(probe, measure)
    places: list[tuple[str, str | None]] = [("all", None)]
    if len(probe.categories) > 1:
        places += [(category or "no category", category) for category in probe.categories]
    columns = [[ask(objective, category) for objective in probe.objectives] for _, category in places]
    curves = [
        Curve(objective, colours[objective], [column[i] for column in columns])
        for i, objective in enumerate(probe.objectives)
    ]
    chart = interval_chart(curves, [name for name, _ in places], title, "")
    rows = [(name, column) for (name, _), column in zip(places, columns, strict=True)]
    return _Panel(title, meaning, chance, rows, chart)


def _shown(
    probe: Probe, colours: Mapping[str, int], picture_of: Callable[[Prompt], Tensor]
) -> list[_PairView]:
    """Return the pairs with the most wrong objectives, these first; of equals, the first ones."""
    wrong = [sum(m.margin(name) <= 0 for name in probe.objectives) for m in probe.measures]
    ranked = sorted(range(len(wrong)), key=lambda i: -wrong[i])[:MOST_SHOWN]
    return [
        _PairView(
            pair=probe.pairs[i],
            source=_data_uri(picture_of(probe.pairs[i])),
            verdicts=[(name, colours[name], probe.measures[i].margin(name)) for name in probe.objectives],
        )
        for i in ranked
    ]


def _data_uri(image: Tensor) -> str:
    picture = fit(to_picture(image).convert("RGB"), _SIDE)
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()


def probe_table(probe: Probe) -> Sequence[Sequence[str]]:
    """Return the table that the command prints: a header, and a row per objective of each model."""
    several = any(model for names in probe.by_model.values() for model in names)
    head = ("objective", "model") if several else ("objective",)
    rows: list[tuple[str, ...]] = [(*head, "accuracy", "moves away", "cosine", "raises margin", "margin")]
    for objective, names in probe.by_model.items():
        for model, name in names.items():
            found = (probe.accuracy, probe.moves_away, probe.cosine, probe.raises_margin, probe.margin)
            first = (objective, model) if several else (objective,)
            rows.append((*first, *(f"{ask(name).mean:.3g}" for ask in found)))
    return rows
