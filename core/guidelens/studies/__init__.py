"""Studies: read grids of conditions from a file, compute their cells, and read the results as a table.

- :mod:`.file` reads and checks a study file; :mod:`.keys` has the keys it may use.
- :mod:`.expand` turns it into cells; :mod:`.run` computes them; :mod:`.forecast` predicts the cost.
- :mod:`.results` reads a study's directory: cells, telemetry, pictures.
"""
