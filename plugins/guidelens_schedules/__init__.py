"""Schedules of guidance objectives: each alone, SHIFT and BLEND (Kong & Kwak 2023)."""
