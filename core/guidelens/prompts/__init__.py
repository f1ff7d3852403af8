"""Prompts: read them from files, select some, and perturb them with typos, homophones, changes of case and order.

:mod:`.facts` turns the assertions of a prompt into statements and questions.
"""

from __future__ import annotations

from .distance import edit_distance
from .facts import fact_values, facts_of
from .files import read_prompts, select
from .perturb import Perturbed, perturb, perturb_prompts

__all__ = [
    "Perturbed",
    "edit_distance",
    "fact_values",
    "facts_of",
    "perturb",
    "perturb_prompts",
    "read_prompts",
    "select",
]
