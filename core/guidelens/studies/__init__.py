"""Studies: grids of conditions from a file, computed durably, and read back as a table.

- :mod:`.file` reads and checks a study file; :mod:`.keys` has the keys it may use.
- :mod:`.expand` turns it into cells; :mod:`.run` computes them; :mod:`.forecast` says what that would take.
- :mod:`.results` reads a study's directory: cells, telemetry, pictures.
"""
