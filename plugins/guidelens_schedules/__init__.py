"""Schedules of guidance objectives: each alone, SHIFT and BLEND (Kong & Kwak 2023)."""

from __future__ import annotations

from .schedules import Blend, Shift, SingleObjective

__all__ = ["Blend", "Shift", "SingleObjective"]
