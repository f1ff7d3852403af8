"""Executors beyond this process's own (:class:`guidelens.runs.execute.InProcess`).

- :mod:`.shipping` says what a worker elsewhere has to load; :mod:`.placing` which task comes first, and what is
  tried again; :mod:`.devices` computes on several devices of this machine, :mod:`.ray` on a Ray cluster.
"""
