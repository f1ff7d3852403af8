"""Guidance models as metrics: any of them judges any pictures."""
