"""Metrics for any pictures: guidance models as judges, distances of distributions, and inflated scores.

- :mod:`.judge` scores pictures by a guidance model's own objectives.
- :mod:`.facts` and :mod:`.questions` ask a model yes/no questions about pictures.
- :mod:`.realism` scores single pictures without a reference.
- :mod:`.matrix` compares the scores of guides by all judges.
- :mod:`.distribution` compares two sets of pictures (FID, KID, CMMD); it needs the extra ``metrics``.
"""
