"""Surveys: blinded ratings of a study's pictures by people, and their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .create import create_survey
    from .exchange import export, import_answers, write_results
    from .figure import section, study_sections
    from .statistics import SurveyResults, results
    from .store import SurveyFile

_HOME = {
    "create_survey": "create",
    "export": "exchange",
    "import_answers": "exchange",
    "write_results": "exchange",
    "section": "figure",
    "study_sections": "figure",
    "SurveyResults": "statistics",
    "results": "statistics",
    "SurveyFile": "store",
}

__all__ = [
    "SurveyFile",
    "SurveyResults",
    "create_survey",
    "export",
    "import_answers",
    "results",
    "section",
    "study_sections",
    "write_results",
]

# The program loads every plugin at each start, so names are imported when they are first used.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
