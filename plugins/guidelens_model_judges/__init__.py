"""Guidance models as metrics: any guidance model can score any pictures."""
