"""Executors beyond this process's own (:class:`guidelens.runs.execute.InProcess`).

- :mod:`.worker_setup` says what a worker elsewhere has to load; :mod:`.task_queue` which task comes first, and what is
  tried again; :mod:`.devices` computes on several devices of this machine, :mod:`.ray` on a Ray cluster.
"""
