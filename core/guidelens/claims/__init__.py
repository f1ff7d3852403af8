"""Claims about objectives as questions to a study, and the statistics that answer them.

Plugins bring the claims (the hook ``register_claims``); this package asks them of any study.

- :mod:`.questions`: what a claim compares; :mod:`.conditions` says which cells are meant.
- :mod:`.asking`: the values of a question in a study; :mod:`.statistics` describes and tests them.
- :mod:`.evaluate`: answers corrected for their number, and verdicts; :mod:`.table` writes them.
"""
