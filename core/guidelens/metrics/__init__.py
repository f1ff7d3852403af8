"""Metrics for any pictures: guidance models as judges, distances of distributions, and who inflates whose score.

- :mod:`.judge` scores pictures by a guidance model's own objectives.
- :mod:`.facts` and :mod:`.questions` ask a model yes/no questions about pictures.
- :mod:`.realism` scores single pictures without a reference.
- :mod:`.matrix` sets guides against judges.
- :mod:`.distribution` compares two sets of pictures (FID, KID, CMMD); it needs the extra ``metrics``.
"""
