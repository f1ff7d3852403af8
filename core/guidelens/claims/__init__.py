"""The claims of Kong & Kwak (2023) as questions to a study, and the statistics that answer them.

- :mod:`.statistics`: a mean of paired differences with its interval, test, effect size and the n it would need.
- :mod:`.questions`: what a question compares; :mod:`.paper` has F1 to F6.
- :mod:`.conditions`: which cells of a study are meant; :mod:`.evaluate` gives the verdicts.
"""
