"""Write report.html of a study: verdicts on the claims, then charts, then every picture. The page contains everything
except the pictures, which are files in the same folder. It makes no other requests.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from guidelens.claims.evaluate import Verdict, evaluate
from guidelens.colours import NEUTRAL, palette
from guidelens.errors import GuidelensError
from guidelens.files import write_file
from guidelens.report.page import is_fine, page_environment
from guidelens.report.study_cells import (
    cell_data,
    member_data,
    varied_columns,
    write_animations,
    write_strips,
)
from guidelens.report.study_charts import panels
from guidelens.report.study_judges import breakable, inflated, matrix_views
from guidelens.report.study_verdicts import count_text, effect_text, forest, p_text
from guidelens.runs.store import COMPARISON, STUDY

if TYPE_CHECKING:
    from guidelens.plugins import SectionInfo
    from guidelens.studies.results import StudyResults

logger = logging.getLogger(__name__)

REPORT = "report.html"


@dataclass(frozen=True)
class SectionView:
    """The section of a plugin. Each part has a heading and HTML."""

    name: str
    title: str
    parts: list[tuple[str, Markup]]


def write_study_report(
    study: StudyResults,
    verdicts: Sequence[Verdict] | None = None,
    sections: Sequence[SectionInfo] = (),
) -> Path:
    """Write ``report.html`` and its files about steps into the study's directory. The files are in ``trajectories/``:
    the x0 predictions of each cell as a strip and as an animation, and saliency maps. Existing files are kept.
    Returns the page's path.

    :param verdicts: result of :func:`~guidelens.claims.evaluate.evaluate`; None: computed here.
    :param sections: sections of plugins: :meth:`guidelens.plugins.PluginManager.report_sections`.
    :raises GuidelensError: no cell is finished yet, or the directory cannot be written.
    """
    if not any(cell["status"] == "done" for cell in study.cells):
        raise GuidelensError(f"{study.directory} has no finished cell yet: guidelens study resume draws them")
    from guidelens.report.saliency import write_saliency

    telemetry = study.all_telemetry()
    write_strips(study.directory, telemetry)
    write_animations(study.directory, telemetry)
    write_saliency(study.directory, telemetry)
    added = [view for view in (_section_view(study, section) for section in sections) if view.parts]
    page = _render(study, evaluate(study) if verdicts is None else verdicts, telemetry, added)
    path = study.directory / REPORT
    write_file(path, page.encode())
    return path


def _render(
    study: StudyResults,
    verdicts: Sequence[Verdict],
    telemetry: Mapping[str, Any],
    sections: Sequence[SectionView],
) -> str:
    cells = study.cells
    objectives = sorted({name for cell in cells for name in cell["losses"] or {}})
    numbers = palette([*dict.fromkeys(cell["schedule"] for cell in cells), *objectives])
    keys = study.keys
    environment = page_environment()
    environment.filters["p"] = p_text
    environment.filters["count"] = count_text
    environment.filters["effect"] = effect_text
    environment.filters["inflated"] = inflated
    environment.filters["breakable"] = breakable
    return str(
        environment.get_template("study.html.j2").render(
            config=study.config,
            fine=any(is_fine(table) for table in _tables(study).values()),
            name=study.name,
            summary=study.config.get("study", {}).get("summary", ""),
            forest=forest(verdicts),
            numbers=numbers,
            sources=list(dict.fromkeys(v.claim.source for v in verdicts)),
            tested=sum(a.tested for v in verdicts for a in v.answers),
            panels=panels(study, telemetry, numbers),
            matrices=matrix_views(study),
            sections=sections,
            keys=keys,
            done=sum(cell["status"] == "done" for cell in keys.values()),
            total=len(keys),
            failed=sum(cell["status"] == "failed" for cell in keys.values()),
            grids=study.config.get("grids") or [{"name": COMPARISON, "summary": "", "claims": []}],
            data=_json(
                {
                    "members": member_data(study),
                    "cells": cell_data(study, telemetry),
                    "axes": varied_columns(study),
                    "settings": _settings(study),
                    "steps": {i: table["steps"] for i, table in _tables(study).items()},
                    "ratios": {i: _ratio(table) for i, table in _tables(study).items()},
                    "colours": numbers,
                    "neutral": NEUTRAL,
                    "columns": list(dict.fromkeys(name for cell in cells for name in cell["metrics"] or {})),
                }
            ),
        )
    )


def _tables(study: StudyResults) -> dict[str, Mapping[str, Any]]:
    """Return the settings by id. The id of a comparison's settings is empty."""
    settings = study.config["settings"]
    return settings if study.config.get("kind") == STUDY else {"": settings}


def _settings(study: StudyResults) -> dict[str, dict[str, str]]:
    return {i: {name: _plain(value) for name, value in table.items()} for i, table in _tables(study).items()}


def _ratio(settings: Mapping[str, Any]) -> float:
    """Return width / height of the pictures."""
    _, height, width = settings["image_shape"]
    return float(width / height)


def _section_view(study: StudyResults, section: SectionInfo) -> SectionView:
    """Render a plugin's section. If the plugin fails, a line in its place says so."""
    try:
        parts = [(str(heading), Markup(html)) for heading, html in section.render(study)]
    except Exception as error:
        reason = str(error) if isinstance(error, GuidelensError) else f"{type(error).__name__}: {error}"
        message = f"plugin {section.plugin!r} failed in the report section {section.name!r}: {reason}"
        logger.warning("%s", message)
        parts = [(section.title, Markup('<p class="warning">{}</p>').format(message))]
    return SectionView(section.name, section.title, parts)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " × ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(data: Any) -> Markup:
    """Return data for a script element, escaped so that it cannot end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
