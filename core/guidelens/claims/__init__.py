"""Claims about objectives, as questions that a study answers, with statistics.

Plugins define claims (hook ``register_claims``). This package evaluates them on any study.

- :mod:`.questions`: what a claim compares; :mod:`.conditions`: which cells it compares.
- :mod:`.asking`: the values of a question in a study; :mod:`.statistics`: their estimates and tests.
- :mod:`.evaluate`: corrected answers and verdicts; :mod:`.table`: verdicts as text.
"""
