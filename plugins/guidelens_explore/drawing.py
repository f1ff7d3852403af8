"""Send a drawing to the page as events, with pictures as data URLs."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from guidelens.colours import NEUTRAL, palette
from guidelens.pictures import from_levels, png_bytes
from guidelens.report.saliency import heat_layer
from guidelens.runs.live import LiveModels, LiveRun, LiveStep, LiveView

from .jobs import Event
from .tries import Try

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

LOSSLESS_SIDE = 128
"""Predictions up to this size are sent as PNG, larger ones as WebP. Finished pictures are always PNG."""

MAX_SHOWN = 512
"""Side in pixels above which predictions are reduced before they are sent."""


def draw(models: LiveModels, wanted: Try) -> Generator[Event, None, None]:
    """Draw a try. Yield the events ``loading``, ``start``, one ``step`` per step, and ``done`` with the finished
    pictures."""
    started = time.perf_counter()
    yield "loading", {}
    run = LiveRun(
        models,
        wanted.prompt,
        wanted.schedules,
        seed=wanted.seed,
        sampling=wanted.sampling,
        generator=wanted.generator,
        guidance=wanted.guidance,
    )
    numbers = palette(column.name for column in run.columns)
    yield (
        "start",
        {
            "steps": run.settings.steps,
            "size": list(run.settings.image_shape[1:]),
            "objectives": list(run.objectives),
            "columns": [
                {"name": column.name, "colour": numbers[column.name], "weights": dict(column.weights)}
                for column in run.columns
            ],
            "colours": objective_colours(run.objectives),
            "scores": [_column(column) for item in run.metrics for column in item.metric.columns],
            "notes": [note.text for note in run.notes],
        },
    )
    steps = run.steps()
    try:
        for step in steps:
            last = step.index == run.settings.steps
            yield "step", encode_step(step, finished=last)
    finally:
        steps.close()
    yield "done", {"seconds": round(time.perf_counter() - started, 2)}


def objective_colours(objectives: Iterable[str]) -> dict[str, int]:
    """Return the number of each objective's colour. The empty name has the colour for several objectives together."""
    return {**palette(objectives), "": NEUTRAL}


def encode_step(step: LiveStep, *, finished: bool) -> dict[str, Any]:
    """Return a step as JSON values."""
    return {
        "index": step.index,
        "progress": round(step.progress, 6),
        "views": [_encode_view(view, finished=finished) for view in step.views],
        "errors": dict(step.errors),
    }


def _encode_view(view: LiveView, *, finished: bool) -> dict[str, Any]:
    maps = {"": view.pull, **view.saliency} if view.pull is not None else {}
    return {
        "picture": _picture_url(view.picture, finished=finished),
        "losses": _short(view.losses),
        "norms": _short(view.gradient_norms),
        "cosines": _short(view.cosines),
        "maps": {
            name: _url("png", png_bytes(heat_layer(levels)))
            for name, levels in maps.items()
            if levels is not None
        },
        "scores": None if view.scores is None else _short(view.scores),
    }


def _short(values: Any) -> dict[str, float | None]:
    return {name: None if value is None else float(f"{value:.5g}") for name, value in values.items()}


def _picture_url(levels: np.ndarray, *, finished: bool) -> str:
    picture = from_levels(levels)
    if finished or max(picture.size) <= LOSSLESS_SIDE:
        return _url("png", png_bytes(picture))
    return _url("webp", _webp_bytes(picture))


def _webp_bytes(picture: Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((MAX_SHOWN, MAX_SHOWN))
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=85, method=0)
    return buffer.getvalue()


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _column(column: Any) -> dict[str, Any]:
    return {
        "name": column.name,
        "meaning": column.meaning,
        "low": column.low,
        "high": column.high,
        "better": "higher" if column.higher_is_better else "lower",
    }
