"""Schedules of guidance objectives: none, one alone, SHIFT and BLEND (Kong & Kwak 2023), and curves."""

from __future__ import annotations

from .curve import Curve
from .schedules import Blend, Shift, SingleObjective, Unguided

__all__ = ["Blend", "Curve", "Shift", "SingleObjective", "Unguided"]
